package sink

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"
)

// maxRefusals is how often a receiver is asked again when it refuses everything: that is rather a mistake in its settings
// than one of each record, so it is given about half a minute.
const maxRefusals = 6

// maxNoted bounds the ids in a control record about dropped records.
const maxNoted = 100

// verdict says that a receiver judged what it was sent.
type verdict struct {
	status  int           // what it answered
	refused bool          // it will not take this, however often it is asked
	after   time.Duration // how long it wants to be left alone
}

func (v *verdict) Error() string { return fmt.Sprintf("the receiver answers %d", v.status) }

// batch is what is sent at once, and where the cursor is when it is delivered.
type batch struct {
	items []item
	bytes int
	next  place
}

func (b *batch) add(it item) {
	b.next[it.log] = it.seq + 1
	if it.line != nil {
		b.items = append(b.items, it)
		b.bytes += len(it.line)
	}
}

// collect waits for a record, and then for others until the batch is full or has waited long enough; nil when ctx ended.
func (r *runner) collect(ctx context.Context, in <-chan item) *batch {
	b := &batch{next: place{}}
	select {
	case it := <-in:
		b.add(it)
	case <-ctx.Done():
		return nil
	}
	enough := time.NewTimer(r.cfg.BatchWait)
	defer enough.Stop()
	for len(b.items) < r.cfg.BatchRecords && b.bytes < r.cfg.BatchBytes {
		select {
		case it := <-in:
			b.add(it)
		case <-enough.C:
			return b
		case <-ctx.Done():
			return nil
		}
	}
	return b
}

// deliver sends a batch until all of it is delivered or put on record as dropped, and moves the cursor as it gets on;
// false when ctx ended before.
func (r *runner) deliver(ctx context.Context, b *batch) bool {
	again := backoff{first: r.opts.retry}
	refusals := 0
	for len(b.items) > 0 {
		n := min(len(b.items), r.portion)
		t := attempt{receiver: r.receiver, limit: r.cfg.Timeout}
		err := t.send(ctx, b.items[:n])
		r.adapt(n, err)
		if t.accepted > 0 {
			refusals = 0
			again.reset()
		}
		if len(t.refused) > 0 {
			refusals++
		}
		left := append(t.rest, b.items[n:]...)
		if len(t.refused) > 0 && (t.accepted > 0 || refusals >= maxRefusals) {
			if !r.drop(ctx, t.refused, t.why) {
				return false
			}
			refusals = 0
		} else {
			left = append(t.refused, left...)
			if err == nil && len(t.refused) > 0 {
				err = t.why
			}
		}
		b.items = left
		r.state.note("sending", err)
		r.state.count(t.accepted, 0, 0)
		r.advance(b.place(), t.accepted)
		if err != nil && len(b.items) > 0 && !again.wait(ctx, after(err)) {
			return false
		}
	}
	r.advance(b.next, 0)
	return true
}

// adapt sends less at once to a receiver that was too slow for so much, so that it gets on at all, and more again when it
// was not.
func (r *runner) adapt(n int, err error) {
	switch {
	case errors.Is(err, errTimeout):
		r.portion = max(1, n/2)
	case err == nil:
		r.portion = min(2*r.portion, r.cfg.BatchRecords)
	}
}

// place is how far a batch is delivered: up to the first record that is left of each log.
func (b *batch) place() place {
	p := place{}
	maps.Copy(p, b.next)
	for i := len(b.items) - 1; i >= 0; i-- {
		p[b.items[i].log] = b.items[i].seq
	}
	return p
}

func after(err error) time.Duration {
	if v, ok := errors.AsType[*verdict](err); ok {
		return v.after
	}
	return 0
}

// attempt is one go at sending records. What a receiver refuses is halved until the records stand alone that it will not
// have; the order of the others stays.
type attempt struct {
	receiver receiver
	limit    time.Duration

	accepted int
	refused  []item
	why      *verdict // of the last refusal
	rest     []item   // not sent, or sent and not answered
}

// send returns what kept it from trying everything, which then is in rest.
func (t *attempt) send(ctx context.Context, items []item) error {
	err := t.once(ctx, items)
	v, judged := errors.AsType[*verdict](err)
	switch {
	case err == nil:
		t.accepted += len(items)
		return nil
	case !judged || !v.refused:
		t.rest = append(t.rest, items...)
		return err
	case len(items) == 1:
		t.refused, t.why = append(t.refused, items[0]), v
		return nil
	}
	half := len(items) / 2
	if err := t.send(ctx, items[:half]); err != nil {
		t.rest = append(t.rest, items[half:]...)
		return err
	}
	return t.send(ctx, items[half:])
}

func (t *attempt) once(ctx context.Context, items []item) error {
	ctx, cancel := context.WithTimeoutCause(ctx, t.limit, errTimeout)
	defer cancel()
	return t.receiver.send(ctx, items)
}

var errTimeout = errors.New("the receiver takes too long")

// drop gives up records that the receiver will not have, a control record for each log first; false when ctx ended before.
func (r *runner) drop(ctx context.Context, refused []item, why *verdict) bool {
	notes := map[string]*Note{}
	for _, it := range refused {
		n := notes[it.log]
		if n == nil {
			n = &Note{Log: it.log, From: it.seq, Why: why.Error()}
			notes[it.log] = n
		}
		n.To, n.Bytes = it.seq, max(n.Bytes, len(it.line))
		if n.Count++; n.Count <= maxNoted {
			n.IDs = append(n.IDs, it.id)
		}
	}
	for _, n := range notes {
		if !r.insist(ctx, CodeDropped, *n) {
			return false
		}
	}
	r.state.count(0, len(refused), 0)
	return true
}
