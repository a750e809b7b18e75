"""From a run to findings and a recommendation; pure."""

from twinax.analyse.base import Finding, Findings
from twinax.analyse.findings import analyse
from twinax.analyse.recommend import Recommendation, recommend

__all__ = ["Finding", "Findings", "Recommendation", "analyse", "recommend"]
