// Package keyd is the key process: it holds private keys, each for one purpose, and answers typed requests of the
// gateway over a Unix socket. PROTOCOL.md is the wire; Run is the process; Init makes keys and a first configuration.
//
// What it protects against is a gateway taken over by a stranger. Such a gateway can finish handshakes for its own
// names, and show its client certificate to apps, while it lasts; it cannot learn a key, sign a certificate, a file or
// another issuer's token, or decrypt.
//
// It can add to its audit logs, and cannot have them signed shorter, or in another version, than they were: ledgers
// remember on disk what was signed last.
//
// A key signs only messages that its purpose can prove well-formed: tls.go, jwt.go, checkpoint.go and note.go are the whole
// list. It offers no decryption, no digests and no TLS 1.2, and does not reload: changed keys take a restart, which a gateway rides
// out.
package keyd
