package export

import (
	"context"
	"fmt"
	"iter"
	"runtime"
	"sync"

	"sallyport/audit"
)

// RunOptions are how Run works.
type RunOptions struct {
	// Workers is how many records are encoded at the same time; 0 is one for each processor.
	Workers int
	// Progress, when set, is called now and then with what was written so far, from the goroutine of Run.
	Progress func(Summary)
}

// Summary is what Run has written.
type Summary struct {
	Records uint64
	Cursor  Cursor // behind the last record that was written
}

// Run writes a sequence of records in its order and closes the writer. It reads, encodes with several workers and writes
// at the same time; a Writer that is not of [NewWriter] is given one record after another. It ends with the first error:
// of the sequence, of the writer, or ctx's cause. What the summary counts was then written and what follows was not, as
// far as the writer's own Close succeeded.
func Run(ctx context.Context, records iter.Seq2[audit.Entry, error], w Writer, o RunOptions) (Summary, error) {
	var summary Summary
	var err error
	if s, ok := w.(*stream); ok {
		summary, err = runStream(ctx, records, s, o)
	} else {
		summary, err = runPlain(ctx, records, w, o)
	}
	if closed := w.Close(); err == nil && closed != nil {
		err = fmt.Errorf("exporting records: %w", closed)
	}
	return summary, err
}

func runPlain(ctx context.Context, records iter.Seq2[audit.Entry, error], w Writer, o RunOptions) (s Summary, err error) {
	for e, err := range records {
		if err == nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err == nil {
			err = w.Write(e)
		}
		if err != nil {
			return s, err
		}
		s.Records, s.Cursor = s.Records+1, After(e)
		if s.Records%batchRecords == 0 {
			o.progress(s)
		}
	}
	return s, nil
}

func (o *RunOptions) progress(s Summary) {
	if o.Progress != nil {
		o.Progress(s)
	}
}

// A batch is what a worker takes at once: many records, so that handing it over costs little, but not many bytes.
const (
	batchRecords = 256
	batchBytes   = 1 << 20
)

// batch goes from the reader to a worker, which closes done, and then to the writer.
type batch struct {
	entries []audit.Entry
	size    int
	out     []byte
	err     error // of the sequence or the encoder; what is in out came before it
	done    chan struct{}
}

// runStream has one goroutine read, some encode, and writes itself. Batches reach the writer in the order in which they
// were read, because they wait in one queue for their turn whoever encodes them.
func runStream(ctx context.Context, records iter.Seq2[audit.Entry, error], s *stream, o RunOptions) (Summary, error) {
	workers := o.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	ctx, stop := context.WithCancelCause(ctx)
	var wait sync.WaitGroup
	work, ordered := make(chan *batch, workers), make(chan *batch, 2*workers)
	free := make(chan *batch, 4*workers)
	for range workers {
		wait.Go(func() {
			for b := range work {
				b.encode(s.encoder)
				close(b.done)
			}
		})
	}
	wait.Go(func() {
		defer close(ordered)
		defer close(work)
		read(ctx, records, work, ordered, free)
	})
	summary, err := write(s, ordered, free, o)
	stop(err) // nobody reads on where writing failed
	for range ordered {
	}
	wait.Wait()
	return summary, err
}

// read cuts the sequence into batches. The writer takes every one of them, also after an error, so handing over always
// ends; ctx ends the reading.
func read(ctx context.Context, records iter.Seq2[audit.Entry, error], work, ordered chan<- *batch, free <-chan *batch) {
	b := newBatch(free)
	hand := func() {
		ordered <- b
		work <- b
		b = newBatch(free)
	}
	defer hand()
	for e, err := range records {
		if err == nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			b.err = err
			return
		}
		b.entries, b.size = append(b.entries, e), b.size+len(e.Raw)
		if len(b.entries) == batchRecords || b.size >= batchBytes {
			hand()
		}
	}
}

func newBatch(free <-chan *batch) *batch {
	b := new(batch)
	select {
	case old := <-free:
		clear(old.entries)
		b.entries, b.out = old.entries[:0], old.out[:0]
	default:
	}
	b.done = make(chan struct{})
	return b
}

func (b *batch) encode(encoder Encoder) {
	for i, e := range b.entries {
		out, err := encoder.Append(b.out, e)
		if err != nil { // it comes before that of the sequence, if there is one
			b.entries, b.err = b.entries[:i], fmt.Errorf("exporting record: %w", err)
			return
		}
		b.out = out
	}
}

func write(s *stream, ordered <-chan *batch, free chan<- *batch, o RunOptions) (summary Summary, err error) {
	for b := range ordered {
		<-b.done
		if err := s.put(b.out); err != nil {
			return summary, fmt.Errorf("exporting records: %w", err)
		}
		if n := len(b.entries); n > 0 {
			summary.Records += uint64(n)
			summary.Cursor = After(b.entries[n-1])
			o.progress(summary)
		}
		if b.err != nil {
			return summary, b.err
		}
		select {
		case free <- b:
		default:
		}
	}
	return summary, nil
}
