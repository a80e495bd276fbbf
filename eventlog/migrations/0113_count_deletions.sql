-- How many messages erasing has deleted from the stream that is there now: any more that it lacks, somebody else has deleted.
-- A table of its own: erasing must not wait for numbering, nor numbering for it.
CREATE TABLE stream_deletions (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    count     bigint  NOT NULL DEFAULT 0 CHECK (count >= 0)
);
INSERT INTO stream_deletions DEFAULT VALUES;
