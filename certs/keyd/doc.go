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
// A key signs only messages that its purpose can prove well-formed: tls.go, tls12.go, jwt.go, acme.go, csr.go, checkpoint.go,
// succession.go and note.go are the whole list. It offers no decryption, and signs no digest but those of acme-account keys.
//
// # Confinement
//
// Before it reads a key, the process has executed itself with no environment and no descriptors but its own (seal), is not
// root if keyd.yaml names a user (become), can be neither traced nor dumped and keeps its memory out of swap (hide), has
// bound its socket (claim), reaches nothing of the file system but the folders of its configuration, keys and state, where it
// writes only the last, and the keys only where it makes some (landlock.go), and makes only the system calls that are left to
// do, none of which makes a socket, a process, executable memory or a way into another process (seccomp.go). All of it is
// tried, not claimed, each time somebody asks for the status (facts), and `strict`, the default, does not start without.
//
// A panic prints its message and no stack. A fault in Go's runtime itself still prints registers to the log.
package keyd
