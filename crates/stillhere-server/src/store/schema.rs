//! The tables, version by version.

/// The version of the schema that this program writes.
pub(super) const VERSION: i64 = 2;

/// What leads from one version to the next: the text at place N leads from version N to N + 1. Each runs in a
/// transaction of its own, so that a crash leaves the one or the other.
pub(super) const STEPS: [&str; VERSION as usize] = [SESSIONS, CHAT];

const SESSIONS: &str = "
    CREATE TABLE session (
        id BLOB PRIMARY KEY,
        secret BLOB NOT NULL,
        previous BLOB,
        generation INTEGER NOT NULL,
        user TEXT,
        client TEXT,
        interval_ms INTEGER NOT NULL,
        closed INTEGER NOT NULL,
        changed_ms INTEGER NOT NULL
    ) WITHOUT ROWID, STRICT;
";

const CHAT: &str = "
    -- Which user a session is of, if it is of one; `user` alone is what it calls itself.
    ALTER TABLE session ADD COLUMN account TEXT;

    -- A row of numbered things: a room's messages, a conversation's, or a mailbox's entries. Nothing up to `trimmed` is
    -- left; the newest seq is that of the last row, or `trimmed` without one.
    CREATE TABLE stream (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        kind INTEGER NOT NULL,              -- 0 room, 1 conversation, 2 mailbox
        trimmed INTEGER NOT NULL DEFAULT 0,
        handled INTEGER NOT NULL DEFAULT 0  -- mailbox: the last position that some client has handled
    ) STRICT;

    CREATE TABLE message (
        stream INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        sender INTEGER NOT NULL,
        time_ms INTEGER NOT NULL,
        mid TEXT,
        text TEXT NOT NULL,
        data TEXT,
        deleted INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (stream, seq)
    ) WITHOUT ROWID, STRICT;

    -- An entry of a mailbox refers to a message of a conversation.
    CREATE TABLE mail (
        stream INTEGER NOT NULL,
        position INTEGER NOT NULL,
        conversation INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        incoming INTEGER NOT NULL,
        PRIMARY KEY (stream, position)
    ) WITHOUT ROWID, STRICT;

    -- Without a name: deleted. Such a row stays as long as messages may refer to it.
    CREATE TABLE user (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT UNIQUE,
        kind INTEGER NOT NULL,              -- 0 a claim, 1 an account
        password TEXT,                      -- Argon2id, as a PHC string
        legacy_md5 TEXT,                    -- imported; gone at the first login
        disabled INTEGER NOT NULL DEFAULT 0,
        created_ms INTEGER NOT NULL,
        mailbox INTEGER NOT NULL
    ) STRICT;

    -- Names of deleted users, which nobody can take for a while.
    CREATE TABLE gone (
        name TEXT PRIMARY KEY,
        until_ms INTEGER NOT NULL
    ) WITHOUT ROWID, STRICT;

    CREATE TABLE token (
        hash BLOB PRIMARY KEY,
        user INTEGER NOT NULL,
        created_ms INTEGER NOT NULL,
        expires_ms INTEGER NOT NULL
    ) WITHOUT ROWID, STRICT;
    CREATE INDEX token_of_user ON token (user, created_ms);
    CREATE INDEX token_expiry ON token (expires_ms);

    CREATE TABLE ban (
        kind TEXT NOT NULL,                 -- user or address
        subject TEXT NOT NULL,
        until_ms INTEGER,                   -- NULL: until it is taken back
        reason TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        PRIMARY KEY (kind, subject)
    ) WITHOUT ROWID, STRICT;

    CREATE TABLE relation (
        user INTEGER NOT NULL,
        other INTEGER NOT NULL,
        kind INTEGER NOT NULL,              -- 0 blocked, 1 allowed
        PRIMARY KEY (user, other)
    ) WITHOUT ROWID, STRICT;
    CREATE INDEX relation_to ON relation (other);

    CREATE TABLE room (
        stream INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        topic TEXT NOT NULL,
        public INTEGER NOT NULL,
        radius REAL,
        created_ms INTEGER NOT NULL
    ) STRICT;

    -- Users of a room of whom there is something to remember.
    CREATE TABLE member (
        stream INTEGER NOT NULL,
        user INTEGER NOT NULL,
        role INTEGER NOT NULL,              -- 0 guest, 1 member, 2 moderator, 3 owner
        muted_until_ms INTEGER NOT NULL,
        removed_until_ms INTEGER NOT NULL,
        PRIMARY KEY (stream, user)
    ) WITHOUT ROWID, STRICT;
    CREATE INDEX member_of ON member (user);

    CREATE TABLE conversation (
        stream INTEGER PRIMARY KEY,
        low INTEGER NOT NULL,               -- the user with the lower id
        high INTEGER NOT NULL,
        wrote INTEGER NOT NULL DEFAULT 0,   -- bit 0: low has written, bit 1: high has
        UNIQUE (low, high)
    ) STRICT;
    CREATE INDEX conversation_of ON conversation (high);

    CREATE TABLE read_mark (
        stream INTEGER NOT NULL,
        user INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        PRIMARY KEY (stream, user)
    ) WITHOUT ROWID, STRICT;
    CREATE INDEX read_mark_of ON read_mark (user);

    CREATE TABLE audit (
        id INTEGER PRIMARY KEY,
        time_ms INTEGER NOT NULL,
        actor TEXT NOT NULL,
        action TEXT NOT NULL,
        subject TEXT NOT NULL,
        detail TEXT NOT NULL
    ) STRICT;

    -- Which database this is: the search's own file belongs to one.
    CREATE TABLE identity (id BLOB NOT NULL) STRICT;
    INSERT INTO identity (id) VALUES (randomblob(16));

    -- Deleted messages that the index of the search may still know.
    CREATE TABLE unindex (
        stream INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        PRIMARY KEY (stream, seq)
    ) WITHOUT ROWID, STRICT;
";
