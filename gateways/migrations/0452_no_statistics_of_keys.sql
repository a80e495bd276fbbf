-- As 0451, by itself: two tables are not locked at once.
ALTER TABLE inbox ALTER COLUMN email_key SET STATISTICS 0, ALTER COLUMN email_key TYPE text COLLATE "C";
