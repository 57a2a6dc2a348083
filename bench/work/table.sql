-- 100,000 rows of generated data: inserted in one transaction, two indexes, then queries over all of it.
CREATE TABLE account (id INTEGER PRIMARY KEY, name TEXT NOT NULL, region INTEGER, balance INTEGER, note TEXT);
BEGIN;
WITH RECURSIVE counter(n, r) AS (
	VALUES (1, 42)
	UNION ALL
	SELECT n + 1, (r * 1103515245 + 12345) % 2147483648 FROM counter WHERE n < 100000
)
INSERT INTO account
SELECT n, printf('%08x-%s', r, char(97 + r / 65536 % 26)), r / 256 % 500, r % 100000 - 50000, hex(r) FROM counter;
COMMIT;
CREATE INDEX account_name ON account (name);
CREATE INDEX account_region ON account (region, balance);
SELECT count(*), sum(balance), min(name), max(name) FROM account;
SELECT region, count(*), sum(balance) FROM account GROUP BY region HAVING sum(balance) > 1500000 ORDER BY 3 DESC LIMIT 20;
SELECT a.id, b.name FROM account a JOIN account b ON b.id = (a.id * 7919) % 100000 + 1
	WHERE a.region = 77 AND b.balance > 0 ORDER BY b.name LIMIT 20;
SELECT count(*) FROM account WHERE name LIKE '%a5%';
UPDATE account SET balance = balance + 1 WHERE region BETWEEN 100 AND 149;
DELETE FROM account WHERE region = 499;
SELECT count(*), sum(balance), total(length(note)) FROM account;
