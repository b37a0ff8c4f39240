"""IT helpdesk."""

from service.domains.helpdesk.domain import Helpdesk

DOMAIN = Helpdesk()

__all__ = ["DOMAIN", "Helpdesk"]
