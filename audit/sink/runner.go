package sink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"sync"
	"time"

	"sallyport/audit"
	"sallyport/audit/export"
	"sallyport/audit/filter"
)

// saveAfter is how long a place may stay unsaved when nothing was delivered: it then only spares reading again what the
// filter passes over.
const saveAfter = 10 * time.Second

// queued is how many records may wait between reading and sending. With records of at most 60 KiB it bounds the memory of
// a sink to 4 MiB besides its batch.
const queued = 64

// receiver is the other end. It belongs to one goroutine.
type receiver interface {
	// send hands over records and returns nil once the receiver has all of them. A *verdict says that it judged them, and
	// how; any other error, that they may or may not have arrived and have to be sent again. Errors hold no secret.
	send(ctx context.Context, b []item) error
	// close gives up what is open.
	close()
}

// runner is one sink at work: a goroutine per log reads, one sends.
type runner struct {
	cfg      Config
	opts     Options
	ca       string // what was in the file CA
	logs     []Log
	where    *filter.Filter // nil for all records
	encoder  export.Encoder
	receiver receiver
	cursor   cursorFile
	state    state

	cancel context.CancelFunc // nil before start
	done   sync.WaitGroup

	// Owned by the goroutine that sends.
	saved   place
	savedAt time.Time
	portion int // how many records are sent at once
}

func newRunner(c Config, o Options) (*runner, error) {
	c = c.filled()
	if err := c.Check(); err != nil {
		return nil, err
	}
	r := &runner{cfg: c, opts: o, cursor: cursorFile{o.FS, c.Name}, portion: c.BatchRecords}
	r.state = state{log: o.Log.With("sink", c.Name), at: place{}, ahead: place{}, troubles: map[string]trouble{}}
	for _, log := range o.Logs {
		if c.Log == Both || string(c.Log) == log.Name() {
			r.logs = append(r.logs, log)
		}
	}
	var err error
	if c.Where != "" {
		if r.where, err = filter.Compile(c.Where); err != nil {
			return nil, fmt.Errorf("where: %w", err)
		}
	}
	if c.CA != "" {
		pem, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		r.ca = string(pem)
	}
	if r.encoder, err = newEncoder(c, o); err != nil {
		return nil, err
	}
	r.receiver, err = o.open(c, r.ca)
	return r, err
}

// same reports whether other would do exactly what r does.
func (r *runner) same(other *runner) bool {
	return reflect.DeepEqual(r.cfg, other.cfg) && r.ca == other.ca
}

// start lets the sink work until ctx ends or end is called. A sink that works goes on.
func (r *runner) start(ctx context.Context) {
	if r.cancel != nil {
		return
	}
	ctx, r.cancel = context.WithCancel(ctx)
	r.done.Go(func() { r.run(ctx) })
}

// end stops the sink and waits until it has let go of its cursor.
func (r *runner) end() {
	if r.cancel != nil {
		r.cancel()
		r.done.Wait()
	}
}

func (r *runner) run(ctx context.Context) {
	defer r.receiver.close()
	from, ok := r.begin(ctx)
	if !ok {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	var readers sync.WaitGroup
	defer readers.Wait()
	defer cancel()
	in := make(chan item, queued)
	for _, log := range r.logs {
		p := &pump{r, log, from[log.Name()], in}
		readers.Go(func() { p.run(ctx) })
	}
	for {
		b := r.collect(ctx, in)
		if b == nil || !r.deliver(ctx, b) {
			return
		}
	}
}

// begin finds out where to begin, and makes that durable; false when ctx ended before.
func (r *runner) begin(ctx context.Context) (from place, ok bool) {
	again := backoff{first: r.opts.retry}
	for {
		from, err := r.beginning(ctx)
		r.state.note("beginning", err)
		if err == nil {
			r.saved, r.savedAt = maps.Clone(from), time.Now()
			r.state.moved(from)
			for log, next := range from {
				r.state.read(log, next)
			}
			return from, true
		}
		if !again.wait(ctx, 0) {
			return nil, false
		}
	}
}

func (r *runner) beginning(ctx context.Context) (place, error) {
	if err := r.cursor.create(); err != nil {
		return nil, err
	}
	from, err := r.cursor.load()
	if errors.Is(err, errCursor) {
		if err := r.record(ctx, CodeRestarted, Note{Why: err.Error()}); err != nil {
			return nil, err
		}
		from, err = place{}, nil
	}
	if err != nil {
		return nil, err
	}
	if from == nil {
		from = place{}
	}
	for _, log := range r.logs {
		next, known := from[log.Name()]
		if from[log.Name()], err = r.beginningOf(ctx, log, next, known); err != nil {
			return nil, err
		}
	}
	return from, r.cursor.save(from)
}

// beginningOf is where to begin in one log. A cursor beyond the log's end belongs to another log, or to this one before
// it was put back: what is new in it has the old numbers, so everything is shipped again.
func (r *runner) beginningOf(ctx context.Context, log Log, next uint64, known bool) (uint64, error) {
	end := log.Next()
	switch {
	case known && next > end:
		why := fmt.Sprintf("the cursor is at seq %d and the log ends at %d", next, end)
		if err := r.record(ctx, CodeRestarted, Note{Log: log.Name(), Why: why}); err != nil {
			return 0, err
		}
	case known:
		return next, nil
	case r.cfg.Start == Newest:
		return end, nil
	}
	first, err := log.First(ctx)
	if err != nil {
		return 0, fmt.Errorf("reading the %s log: %w", log.Name(), err)
	}
	return first, nil
}

// record puts a control record about this sink on record.
func (r *runner) record(ctx context.Context, code string, n Note) error {
	n.Sink = r.cfg.Name
	detail, err := json.Marshal(n)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	actor := &audit.Actor{Kind: "gateway", ID: "sink:" + r.cfg.Name}
	err = r.opts.Record(ctx, &audit.Record{Type: audit.TypeControl, Code: code, Actor: actor, Detail: detail})
	if err != nil {
		return fmt.Errorf("recording %s: %w", code, err)
	}
	return nil
}

// insist records, as often as it takes; false when ctx ended before.
func (r *runner) insist(ctx context.Context, code string, n Note) bool {
	again := backoff{first: r.opts.retry}
	for {
		err := r.record(ctx, code, n)
		r.state.note("recording", err)
		if err == nil {
			return true
		}
		if !again.wait(ctx, 0) {
			return false
		}
	}
}

// advance notes that everything before p is delivered, first in memory and then durably. Shipping does not wait for a disk
// that fails: what is delivered twice after a crash is better than nothing delivered now.
func (r *runner) advance(p place, delivered int) {
	r.state.moved(p)
	if delivered == 0 && time.Since(r.savedAt) < saveAfter {
		return
	}
	next := maps.Clone(r.saved)
	maps.Copy(next, p)
	if maps.Equal(next, r.saved) {
		return
	}
	err := r.cursor.save(next)
	r.state.note("cursor", err)
	if err == nil {
		r.saved, r.savedAt = next, time.Now()
	}
}
