"""Support vector machines: C-SVC and ε-SVR with kernels, and linear C-SVC."""
