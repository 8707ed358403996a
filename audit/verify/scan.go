package verify

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"sallyport/audit/segment"
	"sallyport/audit/tree"
)

const (
	// readLen is how much of a segment is read at once: large enough for any disk, and little enough to be in the
	// processor's cache still when it is hashed. A chunk is as much, and the begin of a frame that was read before, which
	// may have a megabyte.
	readLen  = 256 << 10
	chunkLen = readLen + segment.MaxFrame
	// chunksAhead is how many chunks there are for each worker, those that are being read, hashed and collected included.
	chunksAhead = 3
)

// stretch is one segment as it is scanned.
type stretch struct {
	number uint64
	name   string
	header *segment.Header // nil when it cannot be read
	boot   string          // of the header
	next   *segment.Header // of the segment after; nil when there is none, or it cannot be read
	last   bool            // no segment with a greater number is there
	limit  int64           // where it ends at the latest
	src    *source
	err    error // why header or src is nil, or reading ended
	stop   int64 // up to where there were frames
	other  bool  // the sealed form is there beside the raw one
}

// chunk is a run of whole frames, and what a worker made of it.
type chunk struct {
	*stretch
	at    int64  // where buf begins in the segment
	first uint64 // seq that the first record must have
	buf   []byte
	done  chan struct{} // holds one when a worker is through

	fields fieldScanner
	result
}

// result is what a worker makes of a chunk.
type result struct {
	leaves  []tree.Hash // of the records
	groups  []tree.Hash // roots of the groups of 256 that lie within the leaves
	from    int64       // times of the first and the last record
	to      int64
	others  bool   // there are records that are not announcements of a reading
	served  uint64 // as in runTrace
	gateway bool
	events  []event
	found   []Finding
	more    uint64 // findings beyond those
	tiles   uint64
	bad     error // why the frame at badAt is none; leaves are those before it
	badAt   int64

	rederived uint64
}

// part is what the reader hands on, in order: the begin of a segment, a chunk of it, or its end.
type part struct {
	begin, end *stretch
	chunk      *chunk
}

// scanner reads a log with one goroutine, hashes it with several, and gives the results to one, in order.
type scanner struct {
	folder folder
	log    string
	files  []segmentFile
	worker func(*chunk)
	free   chan *chunk
	work   chan *chunk
	parts  chan part
}

func newScanner(f folder, log string, files []segmentFile, workers int, worker func(*chunk)) *scanner {
	n := workers*chunksAhead + 2
	s := &scanner{
		folder: f, log: log, files: files, worker: worker,
		free: make(chan *chunk, n), work: make(chan *chunk, n), parts: make(chan part, n),
	}
	for range n {
		s.free <- &chunk{done: make(chan struct{}, 1)}
	}
	return s
}

// scan calls collect with each part. It returns collect's error, or ctx's cause.
func (s *scanner) scan(ctx context.Context, workers int, collect func(part) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	wg.Go(func() { s.read(ctx) })
	for range workers {
		wg.Go(func() {
			for c := range s.work {
				s.worker(c)
				c.done <- struct{}{}
			}
		})
	}
	var failed error
	for p := range s.parts {
		if p.chunk != nil {
			<-p.chunk.done
		}
		if failed == nil {
			if failed = collect(p); failed != nil {
				cancel(failed)
			}
		}
		if p.chunk != nil {
			s.free <- p.chunk
		}
		if p.end != nil && p.end.src != nil {
			p.end.src.Close()
		}
	}
	if failed == nil {
		failed = context.Cause(ctx)
	}
	return failed
}

// read reads all segments.
func (s *scanner) read(ctx context.Context) {
	defer close(s.parts)
	defer close(s.work)
	if len(s.files) == 0 {
		return
	}
	cur := s.open(s.files[0])
	for i := range s.files {
		next := (*stretch)(nil)
		cur.last = i+1 == len(s.files)
		if !cur.last {
			next = s.open(s.files[i+1])
		}
		if next != nil && next.number == cur.number+1 {
			cur.next = next.header
		}
		s.parts <- part{begin: cur}
		if cur.header != nil {
			cur.bound()
			if err := s.readFrames(ctx, cur); err != nil {
				cur.err = err
			}
		}
		s.parts <- part{end: cur}
		if ctx.Err() != nil {
			if next != nil && next.src != nil {
				next.src.Close()
			}
			return
		}
		cur = next
	}
}

func (s *scanner) open(f segmentFile) *stretch {
	x := &stretch{number: f.number, name: segment.Name(s.log, f.number), other: f.raw && f.sealed}
	if x.src, x.err = s.folder.openSegment(s.log, f); x.err == nil {
		x.name = x.src.name
		if x.header, x.err = x.src.header(s.log, f.number); x.header != nil {
			x.boot = x.header.Boot.String()
		}
	} else if f.sealed && !f.raw {
		x.name = segment.SealedName(s.log, f.number)
	}
	return x
}

// bound sets where a segment ends at the latest: where its successor says, or with the file.
func (x *stretch) bound() {
	x.limit, x.stop = x.src.size, segment.Block
	if x.next != nil {
		x.limit = x.next.PrevEnd
	}
}

// readFrames cuts a segment into chunks at the borders of frames, which it takes from their headers; workers see whether
// those are right. It returns what kept it from reading on.
func (s *scanner) readFrames(ctx context.Context, x *stretch) error {
	at, first := int64(segment.Block), x.header.FirstSeq()
	var rest []byte // read already, the begin of a frame
	for at < x.limit && ctx.Err() == nil {
		c := <-s.free
		want := int(min(int64(readLen), x.limit-at-int64(len(rest))))
		if len(rest)+want > cap(c.buf) {
			c.buf = make([]byte, min(chunkLen, 2*len(rest)+want))
		}
		c.buf = c.buf[:cap(c.buf)]
		have := copy(c.buf, rest)
		n, err := x.src.ReadAt(c.buf[have:have+want], at+int64(have))
		have += n
		whole, records, broken := frames(c.buf[:have])
		rest = append(rest[:0], c.buf[whole:have]...)
		if whole > 0 {
			c.stretch, c.at, c.first, c.buf = x, at, first, c.buf[:whole]
			c.result = c.reset()
			s.work <- c
			s.parts <- part{chunk: c}
		} else {
			s.free <- c
		}
		at, first = at+int64(whole), first+records
		x.stop = at
		switch {
		case err != nil && !errors.Is(err, io.EOF):
			return err
		case broken:
			return errBroken
		case n < want, want == 0 && whole == 0:
			return errCut
		}
	}
	return nil
}

var (
	errBroken = errors.New("no frame begins here")
	errCut    = errors.New("the segment ends in the middle of a frame")
)

// frames says how many of the bytes are whole frames, and how many records those claim. broken says that what follows
// cannot be the begin of one.
func frames(b []byte) (whole int, records uint64, broken bool) {
	for len(b)-whole >= segment.FrameHeaderLen {
		h := b[whole:]
		length := int(binary.LittleEndian.Uint32(h[20:]))
		if h[0] != 0xf5 || length == 0 || length > segment.MaxFrame-segment.FrameHeaderLen {
			return whole, records, true
		}
		size := segment.Padded(segment.FrameHeaderLen + length)
		if size > len(h) {
			break
		}
		whole += size
		records += uint64(binary.LittleEndian.Uint32(h[16:]))
	}
	return whole, records, false
}

// reset is an empty result that uses the old one's memory.
func (r *result) reset() result {
	return result{leaves: r.leaves[:0], groups: r.groups[:0], events: r.events[:0], found: r.found[:0]}
}

// damaged is a finding about the place where a segment's frames end too early.
func (x *stretch) damaged(log string, at int64, seq uint64, err error) Finding {
	return Finding{Severity: Tampered, Class: ClassSegment, Log: log, Seq: seq, File: x.name, Offset: at,
		Text: fmt.Sprintf("a batch of records that was acknowledged cannot be read: %v", err)}
}
