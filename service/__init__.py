"""Premortem, online: one proposal in, one verdict out.

server, __main__   the command `premortem`: serve, demo, keys
app                builds the adapters, wires the rooms
api/               HTTP: evaluations, decisions, domains, health; problem+json
guardrail          gate, simulate, judge, record
simulator/         many steps: N futures side by side
verdicts/          pure: futures to risk, risk to ruling, ruling to words
decisions/         the ledger
world/             one step: local, cases, scripted
anchors/           recorded history: edge, qdrant
domains/           helpdesk, safety, triage
vocabulary/        what the words mean
"""
