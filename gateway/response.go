package gateway

import (
	"bufio"
	"net"
	"net/http"
	"sync/atomic"
)

// response is the client's side of an exchange: it counts what was sent.
type response struct {
	http.ResponseWriter
	status   int
	bytesOut atomic.Int64
	bytesIn  atomic.Int64 // after an upgrade; before, the request body counts itself
	hijacked bool
	guard    guard // of the connection; it has one where it can be hijacked
}

func (w *response) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.bytesOut.Add(int64(n))
	return n, err
}

// Unwrap lets http.ResponseController reach flushing and deadlines.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Hijack hands the connection of an upgraded exchange to ReverseProxy, still counted.
func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	w.hijacked, w.status = true, http.StatusSwitchingProtocols
	return &countedConn{Conn: conn, w: w}, rw, nil
}

type countedConn struct {
	net.Conn
	w *response
}

func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.w.bytesIn.Add(int64(n))
	if n > 0 {
		c.w.guard.Delivered(n)
	}
	return n, err
}

func (c *countedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.w.bytesOut.Add(int64(n))
	return n, err
}
