"""Construction safety."""

from service.domains.safety.domain import Safety

DOMAIN = Safety()
