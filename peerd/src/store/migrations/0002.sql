-- A start reads the ids of all messages that were shown: here they lie together, apart from the texts.
CREATE INDEX entry_shown ON entry (stream, id, shown) WHERE shown IS NOT NULL;
