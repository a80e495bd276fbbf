-- The questions that name a customer or an object, for when that is no candidate any more.
CREATE INDEX parked_candidates ON parked USING gin (candidates) WHERE state = 'open' AND kind = 'ambiguous';
