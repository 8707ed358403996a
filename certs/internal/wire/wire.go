// Package wire is the language between the gateway and the key process: a hello that fixes the version, then
// length-prefixed frames, each a request with an id or the answer to one. The prose is in certs/keyd/PROTOCOL.md.
//
// It knows frames and names, no keys, no sockets and no deadlines: both ends set those on the connection they read.
package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Version is the highest protocol version this build speaks, and the only one.
const Version = 1

// Limits on the length field of a frame, which counts everything after itself. keyd trusts nobody and takes the small
// one; the gateway trusts keyd and takes lists of thousands of keys.
const (
	MaxRequest = 64 << 10
	MaxAnswer  = 1 << 20
)

// headLen is the part of a frame that its length counts besides the body: id and kind.
const headLen = 4 + 1

// ErrFrame is a frame whose length field is outside the limits. Framing is lost then: the connection must be closed.
var ErrFrame = errors.New("frame length out of bounds")

// Op is what a request asks for. There is one per purpose of a key and never a general "sign these bytes".
type Op byte

// The operations of version 1. Zero is no operation.
const (
	OpList                Op = 1
	OpStatus              Op = 2
	OpSignTLS13Server     Op = 3
	OpSignAssertion       Op = 4
	OpSignClientAssertion Op = 5
	OpSignTLS13Client     Op = 6
	OpSignCheckpoint      Op = 7
	OpCheckpointPosition  Op = 8
	OpSignManifest        Op = 9
	OpSignTLS12Server     Op = 10
	OpSignACMEAccount     Op = 11
	OpMakeCSR             Op = 12
	OpAdoptKey            Op = 13
	OpRotate              Op = 14
	OpSigningLog          Op = 15
	OpSignSuccession      Op = 16
)

// String is the operation's name in logs, counters and PROTOCOL.md.
func (op Op) String() string {
	names := [...]string{"unknown", "list", "status", "sign_tls13_server", "sign_assertion", "sign_client_assertion", "sign_tls13_client",
		"sign_checkpoint", "checkpoint_position", "sign_manifest", "sign_tls12_server", "sign_acme_account", "make_csr", "adopt_key",
		"rotate", "signing_log", "sign_succession"}
	if int(op) < len(names) {
		return names[op]
	}
	return "unknown"
}

// Code says how a request ended. Everything but OK is a refusal, and the answer's body is then a sentence for the log,
// except for Conflict.
type Code byte

// The codes of version 1.
const (
	OK           Code = 0
	Malformed    Code = 1 // the body is not what the operation takes
	UnknownOp    Code = 2 // keyd does not know the operation
	UnknownKey   Code = 3 // keyd holds no key with this id
	WrongPurpose Code = 4 // the key exists, and is for something else
	Refused      Code = 5 // the message is not one that this key signs
	Forbidden    Code = 6 // this peer may look, not sign
	Failed       Code = 7 // keyd's own fault
	Conflict     Code = 8 // the checkpoint does not grow from the last one signed; the body is that one's text
	Limited      Code = 9 // this key was asked more often than its rate allows
)

// String is the code's name in logs and counters.
func (c Code) String() string {
	names := [...]string{"ok", "malformed", "unknown_op", "unknown_key", "wrong_purpose", "refused", "forbidden", "failed", "conflict", "limited"}
	if int(c) < len(names) {
		return names[c]
	}
	return "unknown_code"
}

// Frame is one request (Kind is an Op) or one answer (Kind is a Code).
type Frame struct {
	ID   uint32
	Kind byte
	Body []byte
}

// AppendFrame appends f in wire form: length, id, kind, body; integers are big-endian.
func AppendFrame(b []byte, f Frame) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(headLen+len(f.Body)))
	b = binary.BigEndian.AppendUint32(b, f.ID)
	b = append(b, f.Kind)
	return append(b, f.Body...)
}

// ReadFrame reads one frame whose length field is at most limit. It reads not one byte beyond the frame and holds no
// more memory than limit. io.EOF means that the peer closed between two frames.
func ReadFrame(r io.Reader, limit int) (Frame, error) {
	var head [4 + headLen]byte
	if _, err := io.ReadFull(r, head[:4]); err != nil {
		return Frame{}, err
	}
	n := binary.BigEndian.Uint32(head[:4])
	if n < headLen || uint64(n) > uint64(limit) {
		return Frame{}, fmt.Errorf("%w: %d", ErrFrame, n)
	}
	if _, err := io.ReadFull(r, head[4:]); err != nil {
		return Frame{}, cut(err)
	}
	f := Frame{ID: binary.BigEndian.Uint32(head[4:8]), Kind: head[8], Body: make([]byte, n-headLen)}
	if _, err := io.ReadFull(r, f.Body); err != nil {
		return Frame{}, cut(err)
	}
	return f, nil
}

// HasFrame tells whether ReadFrame finds a whole frame in r's buffer, so that it does not wait for the peer.
func HasFrame(r *bufio.Reader) bool {
	head, err := r.Peek(min(4, r.Buffered()))
	return err == nil && len(head) == 4 && uint64(binary.BigEndian.Uint32(head))+4 <= uint64(r.Buffered())
}

// cut tells a peer that closed in the middle of a frame from one that closed between two.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// SignBody is the body of every sign request: which key, then the message.
func SignBody(key KeyID, message []byte) []byte {
	return append(append(make([]byte, 0, len(key)+len(message)), key[:]...), message...)
}

// SplitSignBody takes a SignBody apart. The message aliases body.
func SplitSignBody(body []byte) (key KeyID, message []byte, err error) {
	if len(body) < len(key) {
		return key, nil, errors.New("shorter than a key id")
	}
	return KeyID(body[:len(key)]), body[len(key):], nil
}
