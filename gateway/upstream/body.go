package upstream

import (
	"errors"
	"io"
	"net/http"
	"sync/atomic"
)

// errAbandoned ends the reading of a request body by a try that is over.
var errAbandoned = errors.New("the request is sent elsewhere")

// sentBody is a request body on its way to one endpoint. As long as nothing was read from it the next try can still have
// it, so that until then a failed try closes it in vain.
type sentBody struct {
	io.ReadCloser
	touched atomic.Bool           // something was read, or was going to be
	over    atomic.Bool           // the try is over
	kept    atomic.Bool           // the body is this try's alone: closing closes
	closed  atomic.Bool           // the try closed it
	err     atomic.Pointer[error] // what the sender's end failed with: not the app's fault
}

func (b *sentBody) Read(p []byte) (int, error) {
	b.touched.Store(true)
	if b.over.Load() {
		return 0, errAbandoned
	}
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		b.err.CompareAndSwap(nil, &err)
	}
	return n, err
}

func (b *sentBody) Close() error {
	b.closed.Store(true)
	if b.kept.Load() || b.touched.Load() {
		return b.ReadCloser.Close()
	}
	return nil
}

// abandon ends the try's use of the body and reports whether it is still as it was.
func (b *sentBody) abandon() (untouched bool) {
	b.over.Store(true)
	return !b.touched.Load()
}

// keep makes the body the try's own, after which no other can have it.
func (b *sentBody) keep() {
	b.kept.Store(true)
	if b.closed.Load() {
		b.ReadCloser.Close()
	}
}

// failure is what the sender's end of a body failed with.
func (b *sentBody) failure() error {
	if b == nil {
		return nil
	}
	if err := b.err.Load(); err != nil {
		return *err
	}
	return nil
}

func hasBody(req *http.Request) bool { return req.Body != nil && req.Body != http.NoBody }

// body is the request's body for one try.
func (x *exchange) body() (*sentBody, error) {
	if !hasBody(x.req) {
		return nil, nil
	}
	if x.req.GetBody == nil {
		return &sentBody{ReadCloser: x.req.Body}, nil
	}
	body := x.req.Body
	if x.taken {
		var err error
		if body, err = x.req.GetBody(); err != nil {
			return nil, err
		}
	}
	x.taken = true
	b := &sentBody{ReadCloser: body}
	b.kept.Store(true)
	return b, nil
}
