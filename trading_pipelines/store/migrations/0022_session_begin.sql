-- A session decides nothing that closed before it began.

alter table sessions add column begins_at timestamptz;
comment on column sessions.begins_at is 'the first bar that is decided closes after this; null until a session is started, and for older ones: no limit';
update sessions set begins_at = created_at where mode = 'paper';
