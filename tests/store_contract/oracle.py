"""What a store should do, written down as slowly and literally as possible: lists, scans, all history kept."""

from dataclasses import replace

from shadowcat_core.sessions import LoggedEvent, Retention, SessionRecord, StreamInfo, Upstream


class OracleStream:
    def __init__(self, stream_id):
        self.info = StreamInfo(stream_id)
        self.all = []  # every event there ever was: (position, time, event, whether it is kept)


class Oracle:
    """A store of the contract, its verbs plain functions."""

    def __init__(self, clock, retention: Retention):
        self.clock = clock
        self.keeps = retention
        self.records: list[SessionRecord] = []
        self.logs: dict[str, list[OracleStream]] = {}
        self.ended: list[str] = []

    def living(self, session_id):
        for record in self.records:
            if record.session_id == session_id and self.clock() < record.times.expires_ms:
                return record
        return None

    def change(self, session_id, make):
        record = self.living(session_id)
        if record is None:
            return None
        new = make(record)
        self.records[self.records.index(record)] = new
        return new

    def create(self, record):
        if any(each.session_id == record.session_id for each in self.records):
            return False
        self.records.append(record)
        self.logs[record.session_id] = []
        return True

    def get(self, session_id):
        return self.living(session_id)

    def touch(self, session_id):
        now_ms = self.clock()
        new = self.change(session_id, lambda record: replace(record, times=record.times.used_at(now_ms)))
        return new and new.mapping

    def find(self, upstream: Upstream):
        for record in self.records:
            if record.mapping.upstream == upstream and upstream.session_id and self.living(record.session_id):
                return record.mapping
        return None

    def rebind(self, session_id, epoch, upstream):
        def move(record):
            mapping = record.mapping
            if mapping.epoch != epoch:
                return record
            return replace(record, mapping=replace(mapping, upstream=upstream, epoch=epoch + 1))

        new = self.change(session_id, move)
        return new and new.mapping

    def add_subscription(self, session_id, uri):
        return bool(
            self.change(
                session_id,
                lambda record: replace(record, subscriptions=(*dict.fromkeys([*record.subscriptions, uri]),)),
            )
        )

    def remove_subscription(self, session_id, uri):
        return bool(
            self.change(
                session_id,
                lambda record: replace(
                    record, subscriptions=tuple(each for each in record.subscriptions if each != uri)
                ),
            )
        )

    def set_log_level(self, session_id, level):
        return bool(self.change(session_id, lambda record: replace(record, log_level=level)))

    def end(self, session_id):
        record = self.living(session_id)
        if record is None:
            return None
        self.records.remove(record)
        self.ended.append(session_id)
        return record.mapping

    def expire(self):
        gone = [record for record in self.records if self.clock() >= record.times.expires_ms]
        self.records = [record for record in self.records if record not in gone]
        return sorted(record.session_id for record in gone)

    def list(self):
        living = [record for record in self.records if self.living(record.session_id)]
        return sorted(living, key=lambda record: (record.times.created_ms, record.session_id))

    def restore(self, record):
        if any(each.session_id == record.session_id for each in self.records):
            there = next(each for each in self.records if each.session_id == record.session_id)
            times = there.times.used_at(record.times.used_ms)
            mapping = record.mapping if record.mapping.epoch > there.mapping.epoch else there.mapping
            mapping = replace(mapping, credential=there.mapping.credential)
            self.records[self.records.index(there)] = replace(there, times=times, mapping=mapping)
        elif record.session_id not in self.ended and self.clock() < record.times.expires_ms:
            self.create(record)
        living = self.living(record.session_id)
        return living and living.mapping

    def stream(self, session_id, stream_id):
        if self.living(session_id) is None:
            return None
        return next((each for each in self.logs[session_id] if each.info.stream_id == stream_id), None)

    def open_stream(self, session_id, stream_id, events, closed):
        if self.living(session_id) is None:
            return False
        there = self.stream(session_id, stream_id)
        if there is not None and events and (there.info.closed or there.info.position):
            return False
        if there is None:
            streams = self.logs[session_id]
            if len(streams) == self.keeps.max_streams:
                over = [each for each in streams if each.info.closed]
                streams.remove((over or streams)[0])
            streams.append(OracleStream(stream_id))
        if events:
            self.append(session_id, stream_id, events, 0, False)
        if closed:
            self.close_stream(session_id, stream_id)
        return True

    def append(self, session_id, stream_id, events, position, closed):
        stream = self.stream(session_id, stream_id)
        if stream is None or stream.info.closed or stream.info.position != position:
            return False
        for event in events:
            position += 1
            latest_ms = max([self.clock(), *(at_ms for _, at_ms, _ in stream.all)])
            stream.all.append((position, latest_ms, event))
            stream.info = replace(
                stream.info,
                position=position,
                upstream_event_id=event.upstream_id or stream.info.upstream_event_id,
            )
        if closed:
            self.close_stream(session_id, stream_id)
        return True

    def after(self, session_id, stream_id, position):
        """Events and how many are lost."""
        stream = self.stream(session_id, stream_id)
        if stream is None:
            return None
        kept = []
        for each in reversed(stream.all):
            kept.insert(0, each)
            if len(kept) > self.keeps.max_events or sum(event.size for _, _, event in kept) > self.keeps.max_bytes:
                kept.pop(0)
                break
        young = [each for each in kept if each[1] > self.clock() - self.keeps.max_age_ms]
        wanted = [LoggedEvent(at, event) for at, _, event in young if at > position]
        return wanted, max(0, stream.info.position - position - len(wanted))

    def close_stream(self, session_id, stream_id):
        stream = self.stream(session_id, stream_id)
        if stream is not None:
            stream.info = replace(stream.info, closed=True)
        return stream is not None

    def streams(self, session_id):
        return [] if self.living(session_id) is None else [each.info for each in self.logs[session_id]]
