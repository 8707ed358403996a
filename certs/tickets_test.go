package certs_test

import (
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"sync"
	"testing"

	"sallyport/certs"
)

// ticketServer answers handshakes for a.example and b.example, with a config of its own for each, and echoes, until the
// test ends.
type ticketServer struct {
	address string
	roots   *x509.CertPool

	mu   sync.Mutex
	seal func(*tls.Config)
}

func startTicketServer(t *testing.T, seal func(*tls.Config)) *ticketServer {
	t.Helper()
	private := ec(t, elliptic.P256())
	cert := fresh(t, private, "a.example", "b.example")
	s := &ticketServer{seal: seal, roots: x509.NewCertPool()}
	s.roots.AddCert(cert)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		SessionTicketsDisabled: true,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: private}}}
			s.mu.Lock()
			defer s.mu.Unlock()
			s.seal(config)
			return config, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.address = l.Addr().String()
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				io.Copy(c, c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		serving.Wait()
	})
	return s
}

// use answers the handshakes from now on with other tickets.
func (s *ticketServer) use(seal func(*tls.Config)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seal = seal
}

// visit makes a connection with what the wallet holds, and tells whether it resumed a session.
func (s *ticketServer) visit(t *testing.T, host string, wallet *wallet) bool {
	t.Helper()
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: handshakeWithin}, "tcp", s.address, &tls.Config{ServerName: host, RootCAs: s.roots, ClientSessionCache: wallet})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := echo(c); err != nil { // reads the ticket, too
		t.Fatal(err)
	}
	return c.ConnectionState().DidResume
}

// wallet is a client that shows any server the last ticket it was given. A frozen one keeps to it.
type wallet struct {
	session *tls.ClientSessionState
	frozen  bool
}

func (w *wallet) Get(string) (*tls.ClientSessionState, bool) { return w.session, w.session != nil }

func (w *wallet) Put(_ string, session *tls.ClientSessionState) {
	if session != nil && !w.frozen {
		w.session = session
	}
}

// KEY-12: a ticket opens for one turn of the key after its own, then no more; and not once its configuration is gone, nor
// elsewhere.
func TestKEY12TicketsDieInTime(t *testing.T) {
	mine := certs.NewTickets()
	s := startTicketServer(t, mine.Seal)
	var w wallet
	if s.visit(t, "a.example", &w) {
		t.Fatal("a first visit resumed a session")
	}
	w.frozen = true
	for _, step := range []struct {
		what    string
		do      func()
		resumes bool
	}{
		{"at once", func() {}, true},
		{"and again", func() {}, true},
		{"after one turn", mine.Rotate, true},
		{"elsewhere", func() { s.use(certs.NewTickets().Seal) }, false},
		{"back here", func() { s.use(mine.Seal) }, true},
		{"after another turn", mine.Rotate, false},
	} {
		step.do()
		if got := s.visit(t, "a.example", &w); got != step.resumes {
			t.Errorf("%s: got resumed %v, want %v", step.what, got, step.resumes)
		}
	}

	w = wallet{}
	s.visit(t, "a.example", &w)
	mine.Retire()
	for range 2 { // the second with what was given out after the end
		if s.visit(t, "a.example", &w) {
			t.Error("a session was resumed after its configuration")
		}
	}
	mine.Rotate()
	for range 2 {
		if s.visit(t, "a.example", &w) {
			t.Error("turning the keys brought tickets back that were retired")
		}
	}
}

// What was asked of a client at one host must not count at another. The mutant is crypto/tls on its own, which resumes any
// session on any host.
func TestTicketsAreOfOneHost(t *testing.T) {
	for name, tt := range map[string]struct {
		seal    func(*tls.Config)
		resumes bool
	}{
		"ours":   {certs.NewTickets().Seal, false},
		"mutant": {func(c *tls.Config) { c.SetSessionTicketKeys([][32]byte{{1}}) }, true},
	} {
		s := startTicketServer(t, tt.seal)
		var w wallet
		s.visit(t, "a.example", &w)
		if got := s.visit(t, "b.example", &w); got != tt.resumes {
			t.Errorf("%s: a session of a.example at b.example: got resumed %v, want %v", name, got, tt.resumes)
		}
		if !s.visit(t, "B.example", &w) {
			t.Errorf("%s: a session is not resumed when the host is spelled otherwise", name)
		}
	}
}

// A ticket that was never ours, whole or in part, is no reason to fail.
func TestForeignTicketsLeadToAFullHandshake(t *testing.T) {
	mine, theirs := certs.NewTickets(), certs.NewTickets()
	s := startTicketServer(t, theirs.Seal)
	var w wallet
	s.visit(t, "a.example", &w)
	s.use(mine.Seal)
	if s.visit(t, "a.example", &w) {
		t.Error("a foreign session was resumed")
	}
	ticket, state, err := w.session.ResumptionState()
	if err != nil {
		t.Fatal(err)
	}
	for _, damaged := range [][]byte{{0}, ticket[:len(ticket)-1], append([]byte{1}, ticket...)} {
		if w.session, err = tls.NewResumptionState(damaged, state); err != nil {
			t.Fatal(err)
		}
		if s.visit(t, "a.example", &w) {
			t.Errorf("a ticket of %d bytes was taken for one of ours", len(damaged))
		}
	}
}
