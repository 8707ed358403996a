package spool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Body is the whole body of a request. It can be read any number of times, also at once.
type Body struct {
	spool *Spooler
	size  int64

	// Set while Request reads, and then only read.
	chunks  []*chunk // the beginning, in memory; while Request reads, the last one is on its way to the file
	inline  [4]*chunk
	file    file  // the rest; nil when there is none
	kept    int64 // bytes in the file
	memory  int64 // bytes of memory in use
	endRead [1]byte

	mu     sync.Mutex
	users  int // reads under way
	closed bool
}

// Request reads body to its end, so that an app that is asked then gets it at the speed of the gateway, and another app
// gets it again. length is what the request announced, -1 for nothing; limit is the largest size allowed, -1 for any.
// The caller closes the Body. It is an error
//
//   - ErrTooLarge, when it is larger than limit, as announced or in fact;
//   - ErrFull, when there is no room in memory and files, or making or writing a file failed;
//   - io.ErrUnexpectedEOF, when it is not as long as announced;
//   - the cause of ctx, which is looked at between two reads: who owns the connection ends one that waits, by a deadline;
//   - or body's own.
//
// Reading ends only with body's io.EOF, from which net/http learns that the request has been read.
func (s *Spooler) Request(ctx context.Context, body io.Reader, length, limit int64) (*Body, error) {
	if limit >= 0 && length > limit {
		return nil, ErrTooLarge
	}
	s.bodies.Add(1)
	b := &Body{spool: s}
	b.chunks = b.inline[:0]
	if err := b.takeIn(ctx, body, length, limit); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

func (b *Body) takeIn(ctx context.Context, body io.Reader, length, limit int64) error {
	for empty := 0; empty < maxEmptyReads; empty++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		space, err := b.space(length)
		if err != nil {
			return err
		}
		n, err := body.Read(space)
		if n > 0 {
			empty = 0
			b.grow(n)
		}
		switch {
		case limit >= 0 && b.size > limit:
			return ErrTooLarge
		case err == io.EOF && length >= 0 && b.size != length, length >= 0 && b.size > length:
			return io.ErrUnexpectedEOF
		case err == io.EOF:
			return b.settle()
		case err != nil:
			return err
		}
	}
	return io.ErrNoProgress
}

// space is where the next bytes go. When all that was announced has come, only the end is left to read.
func (b *Body) space(length int64) ([]byte, error) {
	if length >= 0 && b.size == length {
		return b.endRead[:], nil
	}
	if len(b.chunks) == 0 {
		return b.begin(length)
	}
	last := b.chunks[len(b.chunks)-1]
	if last.w < len(last.buf) {
		return last.buf[last.w:], nil
	}
	if b.file == nil {
		if c := b.spool.further(b.memory); c != nil {
			return b.use(c), nil
		}
	}
	if err := b.spill(last); err != nil {
		return nil, err
	}
	return last.buf, nil
}

// begin takes the first chunk: a small one even for a long body, as it may be long in coming.
func (b *Body) begin(length int64) ([]byte, error) {
	size := smallChunk
	if 0 <= length && length <= tinyChunk {
		size = tinyChunk
	}
	c := b.spool.first(size)
	if c == nil {
		return nil, ErrFull
	}
	return b.use(c), nil
}

func (b *Body) use(c *chunk) []byte {
	b.chunks = append(b.chunks, c)
	b.memory += int64(len(c.buf))
	return c.buf
}

func (b *Body) grow(n int) {
	b.size += int64(n)
	if len(b.chunks) > 0 {
		last := b.chunks[len(b.chunks)-1]
		last.w = min(last.w+n, len(last.buf)) // a byte past the announced length is in endRead, and an error
	}
}

// spill moves a chunk to the end of the file.
func (b *Body) spill(c *chunk) error {
	s, n := b.spool, int64(c.w)
	set := s.settings.Load()
	if b.kept+n > set.bodyDisk || !s.disk.take(n, set.disk) {
		return ErrFull
	}
	f, fresh, err := s.write(b.file, c.buf[:c.w], b.kept)
	if fresh {
		b.file = f
		s.files.Add(1)
	}
	if err != nil {
		s.disk.give(n)
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	b.kept += n
	c.w = 0
	return nil
}

// settle puts the end of a body that has a file there, too.
func (b *Body) settle() error {
	if b.file == nil {
		return nil
	}
	last := b.chunks[len(b.chunks)-1]
	if err := b.spill(last); err != nil {
		return err
	}
	b.chunks = b.chunks[:len(b.chunks)-1]
	b.memory -= int64(len(last.buf))
	b.spool.release(last)
	return nil
}

// Size is the number of bytes.
func (b *Body) Size() int64 { return b.size }

// Open gives the body from its beginning, as http.Request.GetBody does. Its Close may come while it is read.
func (b *Body) Open() (io.ReadCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, ErrClosed
	}
	return &bodyReader{body: b}, nil
}

// Close frees what the Body holds as soon as reads under way are done; later reads say ErrClosed.
func (b *Body) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	b.spool.bodies.Add(-1)
	if b.users == 0 {
		b.free()
	}
	return nil
}

func (b *Body) free() {
	for _, c := range b.chunks {
		b.spool.release(c)
	}
	b.chunks = nil
	if b.file != nil {
		b.file.Close()
		b.file = nil
		b.spool.files.Add(-1)
		b.spool.disk.give(b.kept)
	}
}

// hold keeps everything where it is until letGo.
func (b *Body) hold() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return ErrClosed
	}
	b.users++
	return nil
}

func (b *Body) letGo() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.users--; b.users == 0 && b.closed {
		b.free()
	}
}

// ReadAt reads as io.ReaderAt says.
func (b *Body) ReadAt(p []byte, offset int64) (int, error) {
	if offset < 0 {
		return 0, errors.New("negative offset")
	}
	if err := b.hold(); err != nil {
		return 0, err
	}
	defer b.letGo()
	read := 0
	for read < len(p) && offset < b.size {
		n, err := b.readSome(p[read:], offset)
		read += n
		offset += int64(n)
		if err != nil {
			return read, err
		}
	}
	if read < len(p) {
		return read, io.EOF
	}
	return read, nil
}

// readSome reads at least one byte, from one chunk or the file.
func (b *Body) readSome(p []byte, offset int64) (int, error) {
	for _, c := range b.chunks {
		if offset < int64(c.w) {
			return copy(p, c.buf[offset:c.w]), nil
		}
		offset -= int64(c.w)
	}
	n, err := b.file.ReadAt(p[:min(int64(len(p)), b.kept-offset)], offset)
	if n > 0 {
		return n, nil
	}
	return 0, b.spool.lost(err)
}

// bodyReader reads a Body from its beginning.
type bodyReader struct {
	body *Body

	mu     sync.Mutex
	offset int64
	closed bool
}

func (r *bodyReader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return 0, ErrClosed
	}
	n, err := r.body.ReadAt(p, r.offset)
	r.offset += int64(n)
	if n > 0 && err != nil {
		err = nil // again with the next read, if it lasts; the end certainly does
	}
	return n, err
}

func (r *bodyReader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	return nil
}
