package boot

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/certs"
	"sallyport/certs/keyd/keydtest"
)

// KEY-12: a ticket resumes for a turn of the keys after its own, so that no key is a day old.
func TestKEY12TicketKeysTurnInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandshakes(&certs.Store{})
		a := &assembly{active: &frozen{handshakes: h}}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go a.rotateTickets(ctx)

		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		shown := keydtest.SelfSigned(t, private, []string{"wiki.corp.test"}, time.Now(), time.Now().Add(48*time.Hour))
		h.usual.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return &tls.Certificate{Certificate: [][]byte{shown.Raw}, PrivateKey: private}, nil
		}
		first := &oneTicket{}
		if resumed(t, h, first) {
			t.Error("a first visit resumed a session")
		}
		for _, step := range []struct {
			after time.Duration
			want  bool
		}{{7 * time.Hour, true}, {15 * time.Hour, true}, {17 * time.Hour, false}, {23 * time.Hour, false}} {
			time.Sleep(time.Until(shown.NotBefore.Add(step.after)))
			synctest.Wait()
			if got := resumed(t, h, first); got != step.want {
				t.Errorf("after %v: got resumed %v, want %v", step.after, got, step.want)
			}
		}
	})
}

// resumed makes a connection and tells whether it resumed a session.
func resumed(t *testing.T, h *handshakes, wallet tls.ClientSessionCache) bool {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{SessionTicketsDisabled: true,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) { return h.choose(hello), nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if server, err := l.Accept(); err == nil {
			io.WriteString(server, "hello")
			server.Close()
		}
	}()
	client, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{ServerName: "wiki.corp.test", InsecureSkipVerify: true, ClientSessionCache: wallet})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := io.ReadFull(client, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	return client.ConnectionState().DidResume
}

// oneTicket is a client that keeps the first ticket it is given.
type oneTicket struct{ session *tls.ClientSessionState }

func (o *oneTicket) Get(string) (*tls.ClientSessionState, bool) { return o.session, o.session != nil }

func (o *oneTicket) Put(_ string, session *tls.ClientSessionState) {
	if o.session == nil {
		o.session = session
	}
}
