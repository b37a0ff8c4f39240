"""Medical triage: is the advised place and pace of care ready for what comes?"""

from service.domains.triage.domain import Triage

DOMAIN = Triage()
