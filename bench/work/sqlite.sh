# A database in a file: 100,000 rows inserted, indexed, selected.
/bin/busybox rm -f /tmp/table.db /tmp/table.db-journal
exec sqlite3 -batch /tmp/table.db </work/table.sql
