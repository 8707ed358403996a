package http1

import (
	"io"
	"net/http"
)

// Read reads the body of the answer. With its last bytes it says io.EOF, and the connection is free for the next
// request. A body that ends early is an io.ErrUnexpectedEOF.
func (x *exchange) Read(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.readable(); err != nil {
		return 0, err
	}
	n, err := x.read(p)
	if err != nil {
		err = x.end(err)
	}
	return n, err
}

func (x *exchange) readable() error {
	switch {
	case x.err != nil:
		return x.err
	case x.over.Load():
		return http.ErrBodyReadAfterClose
	case x.interrupted.Load():
		return x.end(x.ctx.Err())
	}
	return nil
}

func (x *exchange) read(p []byte) (int, error) {
	if x.src != nil {
		n, err := x.src.Read(p)
		if err == io.EOF {
			if bad := checkTrailers(x.res.Trailer); bad != nil {
				err = bad
			}
		}
		return n, err
	}
	n, err := x.c.br.Read(p[:min(int64(len(p)), x.left)])
	x.left -= int64(n)
	switch {
	case x.left == 0:
		return n, io.EOF
	case err == io.EOF:
		return n, io.ErrUnexpectedEOF
	}
	return n, err
}

// end is the last thing that reading comes to.
func (x *exchange) end(err error) error {
	x.err = err
	switch {
	case err == io.EOF:
		x.settle()
		return err
	case x.over.Load():
		x.err = http.ErrBodyReadAfterClose
	case x.ctx.Err() != nil:
		x.err = ended(x.ctx)
	}
	x.drop()
	return x.err
}

// WriteTo writes what is buffered without copying it first, which is all of a small body.
func (x *exchange) WriteTo(w io.Writer) (int64, error) {
	written, more, err := x.writeBuffered(w)
	if !more || err != nil {
		return written, err
	}
	buf, _ := x.t.copies.Get().(*[copySize]byte)
	if buf == nil {
		buf = new([copySize]byte)
	}
	defer x.t.copies.Put(buf)
	n, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{x}, buf[:]) // the wrappers keep CopyBuffer from calling us
	return written + n, err
}

// copySize is what a long body is copied in.
const copySize = 32 << 10

// writeBuffered writes what is buffered of a body of known length, and reports whether there is more to come.
func (x *exchange) writeBuffered(w io.Writer) (written int64, more bool, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.readable(); err != nil {
		return 0, err != io.EOF, err
	}
	if x.src != nil {
		return 0, true, nil
	}
	p, _ := x.c.br.Peek(int(min(x.left, int64(x.c.br.Buffered()))))
	n, err := w.Write(p)
	x.c.br.Discard(n)
	x.left -= int64(n)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if x.left == 0 {
		x.end(io.EOF)
		return int64(n), false, err
	}
	return int64(n), true, err
}

// Close ends the exchange. A rest of the body that is there already is thrown away for the sake of the connection; for
// any other rest the connection is closed. It may be called while the body is read, which fails then.
func (x *exchange) Close() error {
	if x.over.Load() {
		return nil
	}
	if !x.mu.TryLock() {
		x.drop()
		return nil
	}
	defer x.mu.Unlock()
	if x.err != nil || x.src != nil || x.left > int64(x.c.br.Buffered()) {
		x.drop()
		return nil
	}
	x.c.br.Discard(int(x.left))
	x.err = http.ErrBodyReadAfterClose
	x.settle()
	return nil
}
