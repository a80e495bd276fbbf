-- A migration of its own: one that locked both tables would deadlock with who reads both.
-- Whether all that it has applied was proved, or read from this database. Earlier versions took every message.
ALTER TABLE checkpoints ADD COLUMN proved boolean NOT NULL DEFAULT true;
UPDATE checkpoints SET proved = false WHERE position > 0;
