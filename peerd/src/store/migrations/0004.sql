-- The author's signature that an entry is void, by which members pass that on.
ALTER TABLE entry ADD COLUMN void BLOB CHECK (length(void) = 64); -- NULL: it is not, or its author did not sign that
