package cache

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

const (
	// firstBlock is what a body of unknown length begins with; blocks double up to largestBlock.
	firstBlock   = 4 << 10
	largestBlock = 256 << 10
	// window is how far a body that is too large to store runs ahead of its slowest reader.
	window = 1 << 20
	// patience is how long readers who have read everything wait for one who does not read before it is cut off.
	patience = 10 * time.Second
)

var errTooSlow = errors.New("cache: fell too far behind others who read the same answer")

// fill is the body of an answer on its way from the app to everyone who waits for it and, if it arrives whole, into the
// store.
//
// It is kept in blocks that only grow, each linked to the next, so that readers need the lock only to learn how far they
// may read. While all of it is kept, no reader can stall it. What turns out to be too large is not stored: its blocks are
// freed behind the slowest reader, it runs at most a window ahead of that one, and nobody new may read it.
type fill struct {
	flight    *flight
	size      int64    // declared, or -1
	announced []string // names of trailer fields
	complete  func(Body, http.Header)

	mu      sync.Mutex
	first   *block // nil once it is too large to be stored
	last    *block
	written int64 // bytes that readers may see
	held    int64 // bytes of blocks, as counted in Cache.filling
	ended   bool
	err     error
	trailer http.Header
	readers map[*reader]struct{}
	more    chan struct{} // closed when there is more to read
	room    chan struct{} // closed when a reader has moved
}

// block is a stretch of the body. Bytes below len(data) never change; those from there to its capacity belong to the
// pump.
type block struct {
	data []byte
	next *block
}

func newFill(f *flight, res *http.Response, complete func(Body, http.Header)) *fill {
	b := &fill{flight: f, size: res.ContentLength, first: new(block), complete: complete, readers: map[*reader]struct{}{}}
	b.last = b.first
	for name := range res.Trailer {
		b.announced = append(b.announced, name)
	}
	return b
}

// pump reads the body to its end. The last bytes are held back until the whole is stored, so that who has read them all
// finds them there.
func (b *fill) pump(ctx context.Context, res *http.Response) {
	defer res.Body.Close()
	unseen := 0
	for {
		room, err := b.grow(ctx, unseen)
		if err == nil {
			var n int
			n, err = res.Body.Read(room)
			unseen += n
		}
		if err != nil {
			b.end(unseen, err, res.Trailer)
			return
		}
		if b.size < 0 || b.written+int64(unseen) < b.size {
			b.publish(unseen)
			unseen = 0
		}
	}
}

// grow finds room after the bytes that nobody has seen yet.
func (b *fill) grow(ctx context.Context, unseen int) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if used := len(b.last.data) + unseen; used < cap(b.last.data) {
		return b.last.data[used:cap(b.last.data)], nil
	}
	n := b.nextBlock()
	if b.first != nil && !b.reserveLocked(n) {
		b.giveUpLocked()
	}
	if b.first == nil {
		if len(b.readers) == 0 {
			return nil, errAbandoned
		}
		if err := b.awaitReadersLocked(ctx); err != nil {
			return nil, err
		}
	}
	b.last.next = &block{data: make([]byte, 0, n)}
	b.last = b.last.next
	return b.last.data[:n], nil
}

// nextBlock is as large as what is known to come, and grows where nothing is known. One byte more than what is to come
// lets the end be met without another block.
func (b *fill) nextBlock() int64 {
	if b.size >= 0 {
		return min(b.size-b.written+1, largestBlock)
	}
	return min(max(2*int64(cap(b.last.data)), firstBlock), largestBlock)
}

// reserveLocked reports whether one more block may be kept.
func (b *fill) reserveLocked(n int64) bool {
	filling, limit := &b.flight.cache.filling, b.flight.cache.opts
	if b.written > limit.MaxEntry {
		return false
	}
	if filling.Add(n) > limit.Filling {
		filling.Add(-n)
		return false
	}
	b.held += n
	return true
}

func (b *fill) releaseLocked() {
	b.flight.cache.filling.Add(-b.held)
	b.held = 0
}

// giveUpLocked makes it an answer that is only passed on.
func (b *fill) giveUpLocked() {
	b.first = nil
	b.releaseLocked()
}

// awaitReadersLocked waits until the slowest reader is within the window. Readers that keep others waiting for too long
// are cut off; one that reads alone may take its time.
func (b *fill) awaitReadersLocked(ctx context.Context) error {
	var late <-chan time.Time
	for b.written-b.slowestLocked() >= window {
		if late == nil {
			timer := time.NewTimer(patience)
			defer timer.Stop()
			late = timer.C
		}
		room := make(chan struct{})
		b.room = room
		b.mu.Unlock()
		var err error
		select {
		case <-room:
		case <-late:
			b.cutSlow()
			late = nil
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		b.mu.Lock()
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (b *fill) slowestLocked() int64 {
	slowest := b.written
	for r := range b.readers {
		slowest = min(slowest, r.at)
	}
	return slowest
}

// cutSlow cuts off readers at the far end of the window, if others have read on.
func (b *fill) cutSlow() {
	b.mu.Lock()
	defer b.mu.Unlock()
	ahead := false
	for r := range b.readers {
		ahead = ahead || b.written-r.at < window
	}
	for r := range b.readers {
		if ahead && b.written-r.at >= window {
			r.cut = true
			delete(b.readers, r)
		}
	}
	b.wakeLocked()
}

// publish lets readers see n bytes more.
func (b *fill) publish(n int) {
	b.mu.Lock()
	b.publishLocked(n)
	b.mu.Unlock()
}

func (b *fill) publishLocked(n int) {
	b.last.data = b.last.data[:len(b.last.data)+n]
	b.written += int64(n)
	b.wakeLocked()
}

func (b *fill) wakeLocked() {
	if b.more != nil {
		close(b.more)
		b.more = nil
	}
}

// end is the end of the body, good or bad. Only a body that came to its proper end is kept (RFC 9111 §3.3).
func (b *fill) end(unseen int, err error, trailer http.Header) {
	total := b.written + int64(unseen)
	if err == io.EOF && b.size >= 0 && total != b.size {
		err = io.ErrUnexpectedEOF
	}
	b.mu.Lock()
	whole := b.first
	b.mu.Unlock()
	if err == io.EOF && whole != nil && total <= b.flight.cache.opts.MaxEntry {
		b.complete(b.assemble(total, unseen), trailer)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended, b.err, b.trailer = true, err, trailer
	b.releaseLocked()
	b.publishLocked(unseen)
}

// assemble joins the blocks. A body in one block that wastes little is taken as it is.
func (b *fill) assemble(total int64, unseen int) Bytes {
	only := b.first.next
	if only != nil && only.next == nil && int64(cap(only.data))-total <= total/8+64 {
		return Bytes(only.data[:total:total])
	}
	whole := make(Bytes, 0, total)
	for block := b.first; block != nil; block = block.next {
		n := len(block.data)
		if block == b.last {
			n += unseen
		}
		whole = append(whole, block.data[:n]...)
	}
	return whole
}

// attach adds a reader from the beginning, while that is still there.
func (b *fill) attach() *reader {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.first == nil {
		return nil
	}
	r := &reader{fill: b, block: b.first, left: -1}
	b.readers[r] = struct{}{}
	return r
}

// reader is one person's view of a fill.
type reader struct {
	fill *fill
	ctx  context.Context
	res  *http.Response // gets the trailer at the end; may be nil
	skip int64          // bytes before the part that is wanted
	left int64          // bytes still wanted, or -1 for all

	// guarded by fill.mu
	block  *block
	offset int
	at     int64
	cut    bool
	closed bool
}

// open says what is wanted. It is called once, before the first Read.
func (r *reader) open(ctx context.Context, part byteRange, res *http.Response) io.ReadCloser {
	r.ctx, r.skip, r.left, r.res = ctx, part.from, part.n, res
	return r
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	data, err := r.next(len(p))
	return copy(p, data), err
}

// WriteTo implements io.WriterTo, without a buffer between.
func (r *reader) WriteTo(w io.Writer) (n int64, err error) {
	for {
		data, err := r.next(largestBlock)
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		m, err := w.Write(data)
		n += int64(m)
		if err != nil {
			return n, err
		}
	}
}

// next waits for bytes that are wanted and takes at most limit of them. They never change.
func (r *reader) next(limit int) ([]byte, error) {
	if r.left == 0 {
		return nil, io.EOF
	}
	for {
		data, more, err := r.take(int64(limit))
		if err != nil || len(data) > 0 {
			return data, err
		}
		if more == nil {
			continue
		}
		select {
		case <-more:
		case <-r.ctx.Done():
			return nil, context.Cause(r.ctx)
		}
	}
}

// take takes what there is: bytes, an end, or else a channel to wait on (nil: look again).
func (r *reader) take(limit int64) (data []byte, more <-chan struct{}, err error) {
	b := r.fill
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case r.closed:
		return nil, nil, http.ErrBodyReadAfterClose
	case r.cut:
		return nil, nil, errTooSlow
	case r.offset < len(r.block.data):
		return r.consumeLocked(limit), nil, nil
	case r.block.next != nil:
		r.block, r.offset = r.block.next, 0
		return nil, nil, nil
	case b.ended:
		if b.err == io.EOF && r.res != nil {
			r.res.Trailer = b.trailer.Clone()
		}
		return nil, nil, b.err
	}
	if b.more == nil {
		b.more = make(chan struct{})
	}
	return nil, b.more, nil
}

func (r *reader) consumeLocked(limit int64) []byte {
	data := r.block.data[r.offset:]
	wanted := limit
	if r.skip > 0 {
		wanted = r.skip
	} else if r.left > 0 {
		wanted = min(limit, r.left)
	}
	data = data[:min(int64(len(data)), wanted)]
	n := int64(len(data))
	r.offset += len(data)
	r.at += n
	if b := r.fill; b.room != nil {
		close(b.room)
		b.room = nil
	}
	if r.skip > 0 {
		r.skip -= n
		return nil
	}
	if r.left > 0 {
		r.left -= n
	}
	return data
}

// Close leaves the fill, which goes on for others.
func (r *reader) Close() error {
	if r.detach() {
		r.fill.flight.leave(errAbandoned)
	}
	return nil
}

// detach takes the reader off the fill. It reports false if it was off already.
func (r *reader) detach() bool {
	b := r.fill
	b.mu.Lock()
	defer b.mu.Unlock()
	already := r.closed
	r.closed = true
	delete(b.readers, r)
	if b.room != nil {
		close(b.room)
		b.room = nil
	}
	return !already
}
