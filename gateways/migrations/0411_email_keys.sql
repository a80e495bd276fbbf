-- Emails are compared by one key, which Rust makes (`tandem_domain::EmailKey`) and which is stored wherever they are compared:
-- without the white space around them, in lower case by Unicode's rules, and bounded, so that it fits a row of an index.
UPDATE emails SET email =
    (SELECT left(email, n) FROM generate_series(1024, 256, -1) AS n WHERE octet_length(left(email, n)) <= 1024 LIMIT 1)
    || encode(sha256(convert_to(email, 'UTF8')), 'hex')
WHERE octet_length(email) > 1024;

ALTER TABLE inbox ADD COLUMN email_key text COLLATE "C";
DROP INDEX inbox_email;
-- Exact for emails in ASCII. Of others lower() knows what the database's locale knows; an object with such an email that waits
-- for its import at this moment may be missed as a twin, until anything is told of it again.
UPDATE inbox SET email_key = lower(btrim(change #>> '{profile,email}', E' \t\n\r\v\f'))
WHERE link_id IS NOT NULL AND change #>> '{profile,email}' IS NOT NULL;
UPDATE inbox SET email_key =
    (SELECT left(email_key, n) FROM generate_series(1024, 256, -1) AS n WHERE octet_length(left(email_key, n)) <= 1024 LIMIT 1)
    || encode(sha256(convert_to(email_key, 'UTF8')), 'hex')
WHERE octet_length(email_key) > 1024;
CREATE INDEX inbox_email_key ON inbox (gateway, email_key) WHERE link_id IS NOT NULL AND email_key IS NOT NULL;

-- Within a survey emails are only compared with each other: the key is a hash, salted by the survey.
ALTER TABLE surveys ADD COLUMN salt uuid NOT NULL DEFAULT gen_random_uuid();
UPDATE survey_objects o SET email_key = encode(sha256(uuid_send(s.salt) || convert_to(email_key, 'UTF8')), 'hex')
FROM surveys s WHERE s.id = o.survey_id AND email_key IS NOT NULL;
UPDATE survey_customers c SET email_key = encode(sha256(uuid_send(s.salt) || convert_to(email_key, 'UTF8')), 'hex')
FROM surveys s WHERE s.id = c.survey_id AND email_key IS NOT NULL;
UPDATE drifts d SET email_key = encode(sha256(uuid_send(s.salt) || convert_to(email_key, 'UTF8')), 'hex')
FROM surveys s WHERE s.id = d.survey_id AND email_key IS NOT NULL;
