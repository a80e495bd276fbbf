-- What is told of it is stored without values: its customer is erased, or its object was dead before anything was known of it.
ALTER TABLE links ADD COLUMN erased boolean NOT NULL DEFAULT false;
