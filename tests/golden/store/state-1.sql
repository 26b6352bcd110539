-- rig.db, version 1 of its tables, as the first rig that had them wrote it: Connection.iterdump, and the two pragmas that are not in it.
BEGIN TRANSACTION;
CREATE TABLE cursors (topic TEXT PRIMARY KEY, cursor TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "cursors" VALUES('room:1','41');
INSERT INTO "cursors" VALUES('room:2','"b"');
CREATE TABLE dead_letters (
                id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, topic TEXT NOT NULL, event TEXT NOT NULL,
                key TEXT, handler TEXT, worker INTEGER, binary INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
                received_at REAL NOT NULL, buried_at REAL NOT NULL, retry INTEGER NOT NULL DEFAULT 0, size INTEGER NOT NULL,
                reason TEXT NOT NULL, traceback TEXT, payload BLOB NOT NULL);
INSERT INTO "dead_letters" VALUES(1,'push','room:1','blob','k1',NULL,NULL,1,0,1700000000.123,1700000000.123,0,78,'refused',NULL,X'00FF');
INSERT INTO "dead_letters" VALUES(2,'event','room:9','seen',NULL,'shop:seen',3,0,0,1699999999.25,1700000000.123,1,91,'ValueError: no','Traceback',X'7B2261223A20317D');
CREATE TABLE outbox (
                id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, topic TEXT NOT NULL, event TEXT NOT NULL,
                binary INTEGER NOT NULL, stored_at REAL NOT NULL, expires_at REAL, attempts INTEGER NOT NULL DEFAULT 0,
                last_error TEXT, size INTEGER NOT NULL, payload BLOB NOT NULL);
INSERT INTO "outbox" VALUES(2,'k2','room:1','say',0,1700000000.123,1700000060.5,1,'timeout',82,X'7B226E223A327D');
CREATE TABLE totals (name TEXT PRIMARY KEY, rows INTEGER NOT NULL, bytes INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO "totals" VALUES('dead_letters',2,169);
INSERT INTO "totals" VALUES('outbox',1,82);
CREATE INDEX outbox_topic ON outbox (topic, id);
CREATE INDEX outbox_expires ON outbox (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX dead_letters_retry ON dead_letters (id) WHERE retry = 1;
CREATE TRIGGER outbox_inserted AFTER INSERT ON outbox BEGIN
            UPDATE totals SET rows = rows + 1, bytes = bytes + new.size WHERE name = 'outbox'; END;
CREATE TRIGGER outbox_deleted AFTER DELETE ON outbox BEGIN
            UPDATE totals SET rows = rows - 1, bytes = bytes - old.size WHERE name = 'outbox'; END;
CREATE TRIGGER dead_letters_inserted AFTER INSERT ON dead_letters BEGIN
            UPDATE totals SET rows = rows + 1, bytes = bytes + new.size WHERE name = 'dead_letters'; END;
CREATE TRIGGER dead_letters_deleted AFTER DELETE ON dead_letters BEGIN
            UPDATE totals SET rows = rows - 1, bytes = bytes - old.size WHERE name = 'dead_letters'; END;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('outbox',3);
INSERT INTO "sqlite_sequence" VALUES('dead_letters',2);
COMMIT;
PRAGMA application_id = 1380534017;
PRAGMA user_version = 1;
