-- The ids of messages are looked up here once the core has forgotten them.
CREATE INDEX outgoing_id ON outgoing (conversation, id) WHERE caller_id = 1;
-- A start reads what waits, and the newest of what does not.
CREATE INDEX outgoing_queued ON outgoing (queued_ms) WHERE state = '"queued"';
CREATE INDEX outgoing_settled ON outgoing (queued_ms) WHERE caller_id = 1 AND state <> '"queued"';
