-- How many links a second fewer are due than at the count before, for as long as some are.
ALTER TABLE backlogs ADD COLUMN drained double precision;
