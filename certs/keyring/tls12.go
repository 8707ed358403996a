package keyring

import (
	"bytes"

	"sallyport/certs/internal/wire"
)

// opFor is the operation that signs the message: TLS 1.2's for a server's key that is marked for it, if the message does
// not begin like all of TLS 1.3 do. A mistake here makes keyd refuse, and nothing else.
func (s *tlsSigner) opFor(message []byte) wire.Op {
	if s.op == wire.OpSignTLS13Server && s.key.TLS12 && !bytes.HasPrefix(message, []byte(padding13)) {
		return wire.OpSignTLS12Server
	}
	return s.op
}

// padding13 begins every message that TLS 1.3 signs, RFC 8446 §4.4.3. What follows the spaces cannot be in TLS 1.2.
const padding13 = "                                                                TLS 1.3, "
