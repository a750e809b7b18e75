"""From a run to findings and a recommendation; pure."""
