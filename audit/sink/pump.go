package sink

import (
	"context"
	"fmt"
	"time"

	"sallyport/audit"
)

// stallCheck is how often a reading is asked whether pruning overtook it: the files that it wants next may be gone.
const stallCheck = 5 * time.Second

// item is one record on its way. Without a line it is one that the filter passed over, which only moves the cursor.
type item struct {
	log  string
	seq  uint64
	id   string
	line []byte // as the receiver gets it
}

// pump reads one log for one sink.
type pump struct {
	r    *runner
	log  Log
	next uint64 // seq of the next record to read
	out  chan<- item
}

// run reads until ctx ends, and begins again after whatever else ended a reading.
func (p *pump) run(ctx context.Context) {
	again := backoff{first: p.r.opts.retry}
	for ctx.Err() == nil {
		before := p.next
		err := p.read(ctx)
		if ctx.Err() != nil {
			return
		}
		p.r.state.note(p.what(), err)
		if err == nil || p.next > before {
			again.reset()
		}
		if err != nil && !again.wait(ctx, 0) {
			return
		}
	}
}

func (p *pump) what() string { return "reading the " + p.log.Name() + " log" }

// read reads from the oldest record that is not pruned. It returns nil when pruning overtook it.
func (p *pump) read(ctx context.Context) error {
	first, err := p.log.First(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", p.what(), err)
	}
	if !p.skipTo(ctx, first) {
		return nil
	}
	reading, cancel := context.WithCancel(ctx)
	stop := p.watch(reading, cancel)
	defer stop()
	for e, err := range p.log.From(reading, p.next) {
		if reading.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", p.what(), err)
		}
		if !p.take(reading, e) {
			return nil
		}
	}
	if reading.Err() == nil {
		return fmt.Errorf("%s: it ended", p.what())
	}
	return nil
}

// watch ends a reading when there is something to read and it does not get on because its place was pruned.
func (p *pump) watch(ctx context.Context, cancel context.CancelFunc) (stop func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for rest(ctx, p.r.opts.stall) {
			if first, err := p.log.First(ctx); err == nil && first > p.r.state.reading(p.log.Name()) {
				cancel()
			}
		}
	}()
	return func() { cancel(); <-done }
}

// take passes a record on; false when ctx ended before.
func (p *pump) take(ctx context.Context, e audit.Entry) bool {
	seq := e.Record.Seq
	if seq < p.next {
		return true
	}
	if !p.skipTo(ctx, seq) {
		return false
	}
	it, ok := p.item(ctx, e)
	if !ok {
		return false
	}
	select {
	case p.out <- it:
	case <-ctx.Done():
		return false
	}
	p.next = seq + 1
	p.r.state.read(p.log.Name(), p.next)
	p.r.state.note(p.what(), nil)
	return true
}

// item makes a record ready to be sent. One that cannot be written in the sink's format is given up, on record.
func (p *pump) item(ctx context.Context, e audit.Entry) (it item, ok bool) {
	it = item{log: p.log.Name(), seq: e.Record.Seq, id: e.Record.ID}
	if p.r.where != nil && !p.r.where.Matches(e.Record) {
		return it, true
	}
	line, err := p.r.encoder.Append(nil, e)
	if err == nil {
		it.line = line
		return it, true
	}
	n := Note{Log: it.log, From: it.seq, To: it.seq, Count: 1, IDs: []string{it.id}, Why: err.Error()}
	if !p.r.insist(ctx, CodeDropped, n) {
		return it, false
	}
	p.r.state.count(0, 1, 0)
	return it, true
}

// skipTo puts on record that the records up to seq are not there any more, and goes on behind them.
func (p *pump) skipTo(ctx context.Context, seq uint64) bool {
	if seq <= p.next {
		return true
	}
	n := Note{Log: p.log.Name(), From: p.next, To: seq - 1, Count: seq - p.next}
	if !p.r.insist(ctx, CodeGap, n) {
		return false
	}
	p.r.state.count(0, 0, int(n.Count))
	p.next = seq
	p.r.state.read(p.log.Name(), p.next)
	return true
}
