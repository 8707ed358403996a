package oidcpeer

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"
	zitadel "github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/zitadel/oidc/v3/example/server/storage"

	"sallyport/authn/oidc"
)

// zitadelStorage is the library's example storage with keys that rotate and a client that signs its assertions.
type zitadelStorage struct {
	*storage.Storage
	client assertionKey

	mu  sync.Mutex
	key *rsaKey
}

func (s *zitadelStorage) rotate(t *testing.T) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key = &rsaKey{rand.Text(), key}
}

func (s *zitadelStorage) current() *rsaKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.key
}

func (s *zitadelStorage) SigningKey(context.Context) (op.SigningKey, error) { return s.current(), nil }

func (s *zitadelStorage) KeySet(context.Context) ([]op.Key, error) {
	return []op.Key{publicRSAKey{s.current()}}, nil
}

func (s *zitadelStorage) GetClientByClientID(ctx context.Context, id string) (op.Client, error) {
	client, err := s.Storage.GetClientByClientID(ctx, id)
	if err != nil || id != "key" {
		return client, err
	}
	return signingClient{client}, nil
}

func (s *zitadelStorage) GetKeyByIDAndClientID(context.Context, string, string) (*jose.JSONWebKey, error) {
	return &jose.JSONWebKey{KeyID: s.client.KeyID(), Use: "sig", Key: s.client.Public()}, nil
}

type signingClient struct{ op.Client }

func (signingClient) AuthMethod() zitadel.AuthMethod { return zitadel.AuthMethodPrivateKeyJWT }

type rsaKey struct {
	id  string
	key *rsa.PrivateKey
}

func (k *rsaKey) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.RS256 }
func (k *rsaKey) Key() any                                    { return k.key }
func (k *rsaKey) ID() string                                  { return k.id }

type publicRSAKey struct{ *rsaKey }

func (k publicRSAKey) Algorithm() jose.SignatureAlgorithm { return jose.RS256 }
func (k publicRSAKey) Use() string                        { return "sig" }
func (k publicRSAKey) Key() any                           { return k.rsaKey.key.Public() }

// serveZitadel runs the provider on a listener until stop.
func serveZitadel(t *testing.T, listener net.Listener, client assertionKey) (s *zitadelStorage, stop func()) {
	t.Helper()
	issuer := "http://" + listener.Addr().String()
	storage.RegisterClients(storage.WebClient("basic", "a secret & more", redirectURL), storage.WebClient("key", "", redirectURL))
	s = &zitadelStorage{Storage: storage.NewStorage(storage.NewUserStore(issuer)), client: client}
	s.rotate(t)
	provider, err := op.NewProvider(&op.Config{
		CryptoKey: [32]byte{1}, CodeMethodS256: true, AuthMethodPost: true, AuthMethodPrivateKeyJWT: true, GrantTypeRefreshToken: true,
	}, s, op.StaticIssuer(issuer), op.WithAllowInsecure(), op.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	interceptor := op.NewIssuerInterceptor(provider.IssuerFromRequest)
	mux := http.NewServeMux()
	mux.Handle("/", provider)
	mux.HandleFunc("GET /login/username", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `<form method="post" action="/login/username?`+r.URL.RawQuery+`">`)
	})
	mux.Handle("POST /login/username", interceptor.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.FormValue("authRequestID")
		if err := s.CheckUsernamePassword(r.PostFormValue("username"), r.PostFormValue("password"), id); err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		http.Redirect(w, r, op.AuthCallbackURL(provider)(r.Context(), id), http.StatusFound)
	}))
	server := &http.Server{Handler: mux}
	var running sync.WaitGroup
	running.Go(func() { server.Serve(listener) })
	stop = sync.OnceFunc(func() {
		server.Close()
		running.Wait()
	})
	t.Cleanup(stop)
	return s, stop
}

func listen(t *testing.T, address string) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

func fillZitadel(string) url.Values {
	return url.Values{"username": {"test-user2"}, "password": {"verysecure"}}
}

func TestSignInAtZitadelThroughRotationAndRestart(t *testing.T) {
	key := newAssertionKey(t)
	for _, client := range []string{"basic", "key"} {
		t.Run(client, func(t *testing.T) {
			listener := listen(t, "127.0.0.1:0")
			address := listener.Addr().String()
			s, stop := serveZitadel(t, listener, key)
			cfg := oidc.Config{Issuer: "http://" + address, ClientID: client, Userinfo: true,
				Scopes: []string{"openid", "profile", "email", "offline_access"}}
			if client == "basic" {
				cfg.ClientSecret = "a secret & more"
			}
			p := newProvider(t, cfg, key)
			discover(t, p)
			wantTestUser(t, signIn(t, p, fillZitadel))

			s.rotate(t)
			result := wantTestUser(t, signIn(t, p, fillZitadel))
			renewed, err := p.Refresh(t.Context(), result.Identity, result.RefreshToken)
			if err != nil {
				t.Fatalf("refresh: %v", err)
			}
			wantTestUser(t, renewed)
			_, err = p.Refresh(t.Context(), result.Identity, result.RefreshToken)
			if err == nil {
				t.Error("a rotated refresh token was taken twice")
			}

			// Another gateway's, which knows this key: an unknown one is looked for once in half a minute.
			other := newProvider(t, cfg, key)
			discover(t, other)
			wantTestUser(t, signIn(t, other, fillZitadel))
			stop()
			_, err = p.Refresh(t.Context(), result.Identity, renewed.RefreshToken)
			wantCode(t, err, oidc.ProviderUnreachable)
			serveZitadel(t, listen(t, address), key)
			wantTestUser(t, signIn(t, other, fillZitadel))
		})
	}
}

func wantTestUser(t *testing.T, result *oidc.Result) *oidc.Result {
	t.Helper()
	if id := result.Identity; id.ID() != "corp|id2" || id.Email != "test-user2@zitadel.ch" || !id.EmailVerified || !strings.HasPrefix(id.Name, "Test") || id.AuthTime.IsZero() {
		t.Errorf("got %+v", id)
	}
	if result.RefreshToken == "" {
		t.Error("no refresh token")
	}
	return result
}
