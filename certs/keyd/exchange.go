package keyd

import (
	"bufio"
	"net"
	"sync"
	"time"

	"sallyport/certs/internal/wire"
)

const (
	// ioTimeout is how long a peer may take over one frame once its first byte is there, over reading one answer, and
	// over the hello. Between frames a connection may rest as long as it likes.
	ioTimeout = 2 * time.Second
	// ioSlack is how much longer an answer may take to be read: the deadline of many answers is set once.
	ioSlack = time.Second
	// maxInFlight bounds the requests of one connection that are worked on at once. At the bound keyd stops reading, and
	// the peer feels it; with P-256 that is 2 ms of work, with RSA-4096 100 ms.
	maxInFlight = 32
)

// exchange is one connection: frames in, in order; answers out, in any order.
//
// A signature with ECDSA costs less than to wake somebody for it and to send its answer on its own. So whoever reads also
// makes those that have arrived, and sends their answers together. Workers do all else, which takes long or waits for a
// disk.
type exchange struct {
	*server
	conn net.Conn
	peer peer

	handed  chan wire.Frame // to workers that are idle
	workers int             // started so far; the reader's
	working sync.WaitGroup
	looking sync.Mutex // held while an answer that may be large is made and sent

	writing  sync.Mutex
	deadline time.Time // of writes
}

// run returns why the connection ended.
func (x *exchange) run() error {
	x.conn.SetDeadline(time.Now().Add(ioTimeout))
	if err := wire.Accept(x.conn); err != nil {
		return err
	}
	x.conn.SetDeadline(time.Time{})
	defer close(x.handed)
	r := bufio.NewReader(x.conn)
	var answers []byte
	for {
		f, err := x.read(r)
		if err != nil {
			return err
		}
		if !x.isQuick(f) {
			answers = x.send(answers)
			x.delegate(f)
			continue
		}
		answers = wire.AppendFrame(answers, x.answer(f))
		if !wire.HasFrame(r) {
			answers = x.send(answers)
		}
	}
}

// read returns the next frame. One that is there as a whole needs no deadline.
func (x *exchange) read(r *bufio.Reader) (wire.Frame, error) {
	if _, err := r.Peek(1); err != nil {
		return wire.Frame{}, err
	}
	if !wire.HasFrame(r) {
		x.conn.SetReadDeadline(time.Now().Add(ioTimeout))
		defer x.conn.SetReadDeadline(time.Time{})
	}
	return wire.ReadFrame(r, wire.MaxRequest)
}

// isQuick tells whether the answer takes less time than to hand the question to somebody else.
func (x *exchange) isQuick(f wire.Frame) bool {
	id, _, err := wire.SplitSignBody(f.Body)
	if err != nil {
		return false
	}
	k := x.keys.Load().byID[id]
	return k != nil && k.quick && k.signer(wire.Op(f.Kind)) != nil
}

// delegate hands f to a worker, a new one if none is idle. With all of them at work it waits.
func (x *exchange) delegate(f wire.Frame) {
	if x.workers == maxInFlight {
		x.handed <- f
		return
	}
	select {
	case x.handed <- f:
	default:
		x.workers++
		x.working.Go(func() { x.work(f) })
	}
}

// work answers f, and then whatever comes.
func (x *exchange) work(f wire.Frame) {
	for more := true; more; f, more = <-x.handed {
		x.respond(f)
	}
}

// respond answers f. Of what may be large there is one answer at a time: a peer that asks for many and reads none shall not
// have keyd keep them all.
func (x *exchange) respond(f wire.Frame) {
	switch wire.Op(f.Kind) {
	case wire.OpList, wire.OpStatus, wire.OpSigningLog:
		x.looking.Lock()
		defer x.looking.Unlock()
	}
	x.send(wire.AppendFrame(nil, x.answer(f)))
}

// send writes answers and returns their empty buffer. A peer that does not read them loses the connection.
func (x *exchange) send(answers []byte) []byte {
	if len(answers) == 0 {
		return answers
	}
	x.writing.Lock()
	defer x.writing.Unlock()
	if now := time.Now(); x.deadline.Sub(now) < ioTimeout {
		x.deadline = now.Add(ioTimeout + ioSlack)
		x.conn.SetWriteDeadline(x.deadline)
	}
	if _, err := x.conn.Write(answers); err != nil {
		x.conn.Close()
	}
	return answers[:0]
}
