CREATE TABLE setting (
  name TEXT NOT NULL PRIMARY KEY, -- which
  json TEXT NOT NULL -- its value
) STRICT, WITHOUT ROWID;
CREATE TABLE profile (
  one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1), -- there is one row at most
  json TEXT NOT NULL -- durable::Profile
) STRICT;
CREATE TABLE contact (
  username TEXT NOT NULL PRIMARY KEY, -- the account
  json TEXT NOT NULL -- durable::Contact
) STRICT, WITHOUT ROWID;
CREATE TABLE conversation (
  number INTEGER NOT NULL PRIMARY KEY, -- stands for the id in the other tables, here alone
  id BLOB NOT NULL UNIQUE CHECK (length(id) = 32), -- ConversationId
  name TEXT NOT NULL, -- 'user:NAME' or 'room:NAME', to find it by its target; '' before it is known
  json TEXT NOT NULL -- durable::ConversationKind; '' before it is known
) STRICT;
CREATE INDEX conversation_name ON conversation (name);
CREATE TABLE stream (
  number INTEGER NOT NULL PRIMARY KEY, -- in the order in which the streams were first seen
  conversation INTEGER NOT NULL, -- conversation.number
  author BLOB NOT NULL CHECK (length(author) = 32), -- the author's peer key
  id BLOB NOT NULL CHECK (length(id) = 16), -- StreamId
  seq INTEGER NOT NULL, -- of the newest entry held
  hash BLOB NOT NULL CHECK (length(hash) = 32), -- of that entry's header bytes
  lamport INTEGER NOT NULL, -- of that entry; at most 2^63-1
  UNIQUE (conversation, author, id)
) STRICT;
CREATE TABLE entry (
  number INTEGER NOT NULL PRIMARY KEY, -- in the order of recording
  stream INTEGER NOT NULL, -- stream.number
  seq INTEGER NOT NULL, -- in the stream
  conversation INTEGER NOT NULL, -- conversation.number, for the index of histories
  lamport INTEGER NOT NULL, -- the header's Lamport time; at most 2^63-1
  recorded_ms INTEGER NOT NULL, -- when it was recorded, by our clock
  shown INTEGER, -- event.n of the event that showed it; NULL for our own, void ones and repeated ids
  id TEXT NOT NULL, -- MessageId
  header BLOB NOT NULL, -- the bytes exactly as signed
  signature BLOB NOT NULL CHECK (length(signature) = 64), -- by the author's peer key
  salt BLOB, -- of the body; NULL without a body
  text TEXT, void BLOB CHECK (length(void) = 64), -- of the body; NULL if it was withheld or dropped
  UNIQUE (stream, seq)
) STRICT;
CREATE INDEX entry_history ON entry (conversation, lamport);
CREATE TABLE outgoing (
  conversation INTEGER NOT NULL, -- conversation.number
  stream BLOB NOT NULL, -- StreamId of ours
  seq INTEGER NOT NULL, -- in the stream
  id TEXT NOT NULL, -- MessageId
  caller_id INTEGER NOT NULL, -- 1 if the caller gave the id
  text_hash BLOB NOT NULL, -- of the text alone
  epoch INTEGER NOT NULL, -- the room epoch of the entry; 0 in a 1:1 conversation
  state TEXT NOT NULL, -- MessageState as JSON
  reason TEXT NOT NULL, -- Code as JSON, or null
  queued_ms INTEGER NOT NULL, -- since when it waits, by our clock
  expires_ms INTEGER, -- when it expires, by our clock; NULL: never
  offered INTEGER NOT NULL, -- 1 if its body was ever sent to anybody
  giving_up TEXT NOT NULL, -- durable::GiveUp as JSON, or null
  PRIMARY KEY (conversation, stream, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE acked (
  conversation INTEGER NOT NULL, -- conversation.number
  member BLOB NOT NULL, -- its peer key
  stream BLOB NOT NULL, -- StreamId of ours
  seq INTEGER NOT NULL, -- covered up to here
  PRIMARY KEY (conversation, member, stream)
) STRICT, WITHOUT ROWID;
CREATE TABLE exception (
  conversation INTEGER NOT NULL, -- conversation.number
  holder BLOB NOT NULL, -- who does not hold it: the peer key of a member, or ours
  author BLOB NOT NULL, -- the author's peer key
  stream BLOB NOT NULL, -- StreamId
  seq INTEGER NOT NULL, -- in the stream
  kind TEXT NOT NULL, -- ExceptionKind as JSON
  PRIMARY KEY (conversation, holder, author, stream, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE fork (
  number INTEGER NOT NULL PRIMARY KEY, -- in the order in which they were found
  a_header BLOB NOT NULL, -- one header as signed
  a_signature BLOB NOT NULL, -- its signature
  b_header BLOB NOT NULL, -- the other
  b_signature BLOB NOT NULL, -- its signature
  UNIQUE (a_header, b_header)
) STRICT;
CREATE TABLE chat (
  peer TEXT NOT NULL PRIMARY KEY, -- the contact
  json TEXT NOT NULL -- durable::ChatRow
) STRICT, WITHOUT ROWID;
CREATE TABLE request (
  username TEXT NOT NULL PRIMARY KEY, -- who asks
  json TEXT NOT NULL -- durable::RequestRow
) STRICT, WITHOUT ROWID;
CREATE TABLE room (
  id BLOB NOT NULL PRIMARY KEY, -- RoomId
  json TEXT NOT NULL -- durable::RoomRow
) STRICT, WITHOUT ROWID;
CREATE TABLE membership (
  room BLOB NOT NULL, -- RoomId
  epoch INTEGER NOT NULL, -- 1, 2, 3 … without a gap
  json TEXT NOT NULL, -- Signed<MembershipRecord>, with the document exactly as signed
  PRIMARY KEY (room, epoch)
) STRICT, WITHOUT ROWID;
CREATE TABLE event (
  n INTEGER NOT NULL PRIMARY KEY, -- 1, 2, 3 … without a gap
  time_ms INTEGER NOT NULL, -- when it was recorded, by our clock
  json TEXT NOT NULL, -- EventKind; of a message without its text
  entry INTEGER -- entry.number of a message, where its text is; NULL for the other types
) STRICT;
CREATE TABLE consumer (
  name TEXT NOT NULL PRIMARY KEY, -- given by the reader
  acked INTEGER NOT NULL -- the highest event.n that it has dealt with
) STRICT, WITHOUT ROWID;
CREATE INDEX entry_shown ON entry (stream, id, shown) WHERE shown IS NOT NULL;
CREATE INDEX outgoing_id ON outgoing (conversation, id) WHERE caller_id = 1;
CREATE INDEX outgoing_queued ON outgoing (queued_ms) WHERE state = '"queued"';
CREATE INDEX outgoing_settled ON outgoing (queued_ms) WHERE caller_id = 1 AND state <> '"queued"';
