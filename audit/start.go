package audit

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/google/uuid"

	"sallyport/audit/segment"
	"sallyport/audit/tree"
)

// newLog starts the log's next segment. Every run starts its own, so that a torn tail is never written over: it stays
// behind the end that the new segment's header states.
func newLog(cfg logConfig, h *history) (*Log, error) {
	l := &Log{logConfig: cfg, wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	l.stalling = time.AfterFunc(time.Hour, l.stalled)
	l.stalling.Stop()
	l.blanks = newBlanks(l.fs, l.name, l.segmentSize, l.log)
	l.nextSeq, l.frame, l.growth = h.NextSeq(), newFrame(), newGrowth(h.After.Clone())
	if err := l.succeed(h); err != nil {
		return nil, err
	}
	var err error
	if l.tail, err = l.fs.OpenFile(tailName(l.name), os.O_RDWR|os.O_CREATE); err == nil {
		err = l.publish()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("publishing the end of the %s log: %w", l.name, err), l.abort())
	}
	return l, nil
}

// start starts the log's goroutines; close ends them.
func (l *Log) start() {
	l.blanks.start()
	go l.growth.run()
	go l.run()
}

// abort closes the files of a log.
func (l *Log) abort() error {
	err := l.seg.file.Close()
	if l.tail != nil {
		err = errors.Join(err, l.tail.Close())
	}
	return err
}

// succeed makes the first segment of this run. What recovery dropped and the record that says so become durable at
// once, in the same header and file.
func (l *Log) succeed(h *history) error {
	next := l.header(h.After.Clone())
	if h.last != nil {
		next.Number, next.PrevEnd = h.last.Number+1, h.End
	}
	var first []byte
	if r := h.record(); r != nil {
		l.log.Warn("audit log ended in an incomplete batch",
			"log", l.name, "file", h.name, "offset", h.End, "dropped_bytes", h.Dropped)
		e, err := l.entry(r)
		if err != nil {
			return err
		}
		first = l.assemble(next.ID, []*entry{e})
		l.nextSeq++
	}
	b, err := l.blanks.make()
	if err != nil {
		return err
	}
	if l.seg, err = b.become(l.fs, next, first); err != nil {
		return err
	}
	if len(first) > 0 {
		l.growth.add(hashFrame(nil, first))
	}
	if h.last != nil {
		l.shorten(h)
	}
	return nil
}

// shorten gives back the unused space of the segment that a former run wrote; see segment.retire.
func (l *Log) shorten(h *history) {
	f, err := l.fs.OpenFile(h.name, os.O_RDWR)
	if err != nil {
		return
	}
	_ = f.Truncate(h.End)
	_ = f.Close()
}

// header is a segment's header without what it says of its predecessor.
func (l *Log) header(before tree.Frontier) *segment.Header {
	return &segment.Header{
		Log: l.name, Number: 1, ID: uuid.New(), Created: l.now(), Before: before,
		Boot: uuid.MustParse(l.boot.ID), BootN: l.boot.N,
	}
}
