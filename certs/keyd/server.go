package keyd

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"sallyport/certs/internal/wire"
)

// maxConns bounds the connections of one uid, so that no user can take them from another.
const maxConns = 32

// peer is who is at the other end of a connection.
type peer struct {
	uid, pid int
	maySign  bool // listed in allow_uids, or holder of a child's descriptor; others may only look
	operates bool // root or keyd's own user, over a socket: may rotate
}

// server answers requests. It has no state but counters: every answer follows from the request, the keys and, for
// checkpoints, the keys' ledgers.
type server struct {
	keys    atomic.Pointer[keyset]
	custody *slots
	reloads atomic.Pointer[reloaded]
	mode    string
	started time.Time
	facts   func() []wire.Fact
	log     *slog.Logger

	signing  *signingLog
	quiet    rate.Sometimes // a hostile peer must not fill the log
	loud     rate.Sometimes // nor drown an alarm in what is none
	refusals [wire.Limited + 1]atomic.Uint64
	turned   atomic.Uint64

	mu    sync.Mutex
	conns map[int]int // open connections by uid
	total int
}

func newServer(keys *slots, mode string, facts func() []wire.Fact, log *slog.Logger) (*server, error) {
	set, err := keys.keyset()
	if err != nil {
		return nil, err
	}
	s := &server{
		custody: keys,
		mode:    mode, started: time.Now(), facts: facts, log: log,
		signing: newSigningLog(time.Now),
		quiet:   rate.Sometimes{First: 20, Interval: time.Second},
		loud:    rate.Sometimes{First: 20, Interval: time.Second},
		conns:   map[int]int{},
	}
	s.keys.Store(set)
	keys.log, keys.publish = log, func(set *keyset) { s.keys.Store(set) }
	return s, nil
}

// serveConn answers one peer until it leaves, breaks the protocol or ctx ends. It returns after its last answer.
func (s *server) serveConn(ctx context.Context, c net.Conn, p peer) error {
	if !s.enter(p) {
		return errors.Join(errors.New("too many connections"), c.Close())
	}
	defer s.leave(p)
	x := &exchange{server: s, conn: c, peer: p, handed: make(chan wire.Frame)}
	defer x.working.Wait()
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if err := x.run(); !isGone(err) {
		return err
	}
	return nil
}

func (s *server) enter(p peer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns[p.uid] >= maxConns {
		s.turned.Add(1)
		return false
	}
	s.conns[p.uid]++
	s.total++
	return true
}

func (s *server) leave(p peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total--
	if s.conns[p.uid]--; s.conns[p.uid] == 0 {
		delete(s.conns, p.uid)
	}
}

func (x *exchange) answer(f wire.Frame) wire.Frame {
	op := wire.Op(f.Kind)
	var body []byte
	var code wire.Code
	switch op {
	case wire.OpList:
		body, code = x.look(f.Body, func() ([]byte, error) { return x.keys.Load().list, nil })
	case wire.OpStatus:
		body, code = x.look(f.Body, func() ([]byte, error) { return json.Marshal(x.status()) })
	case wire.OpSigningLog:
		body, code = x.readLog(f.Body)
	case wire.OpCheckpointPosition:
		body, code = x.position(f.Body)
	case wire.OpSignTLS13Server, wire.OpSignTLS12Server, wire.OpSignTLS13Client, wire.OpSignAssertion, wire.OpSignClientAssertion,
		wire.OpSignCheckpoint, wire.OpSignManifest, wire.OpSignACMEAccount:
		body, code = x.sign(op, f.Body)
	case wire.OpMakeCSR, wire.OpAdoptKey, wire.OpRotate:
		body, code = x.change(op, f.Body)
	case wire.OpSignSuccession:
		body, code = x.succession(f.Body)
	default:
		body, code = []byte("unknown operation"), wire.UnknownOp
	}
	if code != wire.OK {
		x.refuse(op, code, x.keyName(f.Body), body)
	}
	return wire.Frame{ID: f.ID, Kind: byte(code), Body: body}
}

// refuse leaves traces of a request that is not served: counts, an entry in the signing log, a line in the log.
func (x *exchange) refuse(op wire.Op, code wire.Code, key string, body []byte) {
	why := string(body)
	if code == wire.Conflict { // the body is a checkpoint
		why = "key " + key + ": another checkpoint was signed last"
	}
	x.refusals[code].Add(1)
	x.signing.refused(key, op, code, why, x.peer)
	about := []any{"op", op.String(), "code", code.String(), "why", why, "peer_uid", x.peer.uid, "peer_pid", x.peer.pid}
	if code == wire.WrongPurpose {
		x.loud.Do(func() { x.log.Error("a key was asked for what it is not for: is the gateway still ours?", about...) })
		return
	}
	x.quiet.Do(func() { x.log.Warn("request refused", about...) })
}

// keyName is the name of the key that a request names; empty if it names none that there is.
func (x *exchange) keyName(body []byte) string {
	if id, _, err := wire.SplitSignBody(body); err == nil {
		if k := x.keys.Load().byID[id]; k != nil {
			return k.Name
		}
	}
	return ""
}

// readLog answers signing_log, which signs nothing: everybody may look.
func (x *exchange) readLog(body []byte) ([]byte, wire.Code) {
	after, err := wire.ParseAfterBody(body)
	if err != nil {
		return []byte(err.Error()), wire.Malformed
	}
	answer, err := x.signing.read(after)
	if err != nil {
		return []byte(err.Error()), wire.Failed
	}
	return answer, wire.OK
}

// look answers a request that takes nothing.
func (x *exchange) look(body []byte, answer func() ([]byte, error)) ([]byte, wire.Code) {
	if len(body) > 0 {
		return []byte("the operation takes no body"), wire.Malformed
	}
	b, err := answer()
	if err != nil {
		return []byte(err.Error()), wire.Failed
	}
	return b, wire.OK
}

// sign answers a sign request: right peer, known key, right purpose, and a message that the key signs.
func (x *exchange) sign(op wire.Op, body []byte) ([]byte, wire.Code) {
	if !x.peer.maySign {
		return []byte("this user is not in allow_uids"), wire.Forbidden
	}
	return x.with(op, body, func(k *key, message []byte) ([]byte, error) {
		if !k.turns.Allow() {
			return nil, errLimited
		}
		sig, err := k.signer(op)(message)
		if err == nil {
			k.signed.Add(1)
			x.signing.signed(k.Name, op)
		}
		return sig, err
	})
}

// position answers checkpoint_position, which signs nothing: everybody may look.
func (x *exchange) position(body []byte) ([]byte, wire.Code) {
	return x.with(wire.OpSignCheckpoint, body, func(k *key, base []byte) ([]byte, error) {
		return k.logs.position(string(base))
	})
}

// with answers a request that names a key for op.
func (x *exchange) with(op wire.Op, body []byte, answer func(k *key, message []byte) ([]byte, error)) ([]byte, wire.Code) {
	id, message, err := wire.SplitSignBody(body)
	if err != nil {
		return []byte(err.Error()), wire.Malformed
	}
	k := x.keys.Load().byID[id]
	if k == nil {
		return []byte("no key has this id"), wire.UnknownKey
	}
	if k.signer(op) == nil {
		k.refused.Add(1)
		return []byte("key " + k.Name + " is for " + k.job()), wire.WrongPurpose
	}
	good, err := answer(k, message)
	if err == nil {
		return good, wire.OK
	}
	if r, ok := errors.AsType[refusal](err); ok {
		k.refused.Add(1)
		return []byte("key " + k.Name + ": " + string(r)), wire.Refused
	}
	if last, ok := errors.AsType[conflict](err); ok {
		k.refused.Add(1)
		return wire.Checkpoint(last).AppendText(nil), wire.Conflict
	}
	if errors.Is(err, errLimited) {
		k.refused.Add(1)
		return []byte("key " + k.Name + ": " + err.Error()), wire.Limited
	}
	return []byte("key " + k.Name + ": " + err.Error()), wire.Failed
}

func (s *server) status() wire.Status {
	s.mu.Lock()
	open := s.total
	s.mu.Unlock()
	st := wire.Status{
		Mode: s.mode, PID: os.Getpid(), UID: os.Geteuid(), Started: s.started.UTC(),
		Connections: open, Turned: s.turned.Load(), Refusals: map[string]uint64{}, Sandbox: s.facts(),
	}
	st.Alarms, st.LastAlarm = s.signing.alarmed()
	for c := range s.refusals {
		if n := s.refusals[c].Load(); n > 0 {
			st.Refusals[wire.Code(c).String()] = n
		}
	}
	if r := s.reloads.Load(); r != nil {
		st.Reload = &wire.Reload{Count: r.n, Time: r.at.UTC()}
		if r.err != nil {
			st.Reload.Error = r.err.Error()
		}
	}
	set := s.keys.Load()
	for i, k := range set.keys {
		about := set.about[i]
		about.Signed, about.Refused, about.Notes = k.signed.Load(), k.refused.Load(), k.notes()
		st.Keys = append(st.Keys, about)
	}
	st.Keys = append(st.Keys, set.silent...)
	return st
}
