-- Keys are bounded, so that they fit a row of their indexes whatever a gateway sends; those of emails are without the white space
-- around them. As `tandem_domain::EmailKey` and `name_key` make them. White space beyond ASCII is left: `tandem rebuild` makes
-- all keys anew.
UPDATE customer_rows SET email_key = btrim(email_key, E' \t\n\r\v\f') WHERE email_key <> btrim(email_key, E' \t\n\r\v\f');
UPDATE customer_rows SET email_key =
    (SELECT left(email_key, n) FROM generate_series(1024, 256, -1) AS n WHERE octet_length(left(email_key, n)) <= 1024 LIMIT 1)
    || encode(sha256(convert_to(email_key, 'UTF8')), 'hex')
WHERE octet_length(email_key) > 1024;
UPDATE customer_rows SET name_key =
    (SELECT left(name_key, n) FROM generate_series(1024, 256, -1) AS n WHERE octet_length(left(name_key, n)) <= 1024 LIMIT 1)
    || encode(sha256(convert_to(name_key, 'UTF8')), 'hex')
WHERE octet_length(name_key) > 1024;
