package memscan_test

import (
	"bufio"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/certs"
	"sallyport/certs/keyd/keydtest"
	"sallyport/certs/keyring"
	"sallyport/test/memscan"
)

func TestMain(m *testing.M) {
	keydtest.Main(m, map[string]func([]string) error{"hold": hold, "use": use})
}

// hold is a program that has a private key in memory, as a gateway must not. It makes the key, uses it and prints it.
func hold(args []string) error {
	private, err := generate(args[0])
	if err != nil {
		return err
	}
	for range 10 {
		opts := crypto.SignerOpts(crypto.SHA256)
		if args[0] == "ed25519" {
			opts = crypto.Hash(0)
		}
		if _, err := crypto.SignMessage(private, rand.Reader, []byte("message"), opts); err != nil {
			return err
		}
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	if err := pem.Encode(os.Stdout, &pem.Block{Type: "PRIVATE KEY", Bytes: der}); err != nil {
		return err
	}
	clear(der)
	return rest(private)
}

// use is a program that uses keys of the key process as the gateway does: it serves TLS and signs assertions.
func use(args []string) error {
	socket, glob, name := args[0], args[1], args[2]
	c, err := keyring.Open(context.Background(), keyring.Config{Socket: socket, UID: keydtest.KeydUID}, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	store, err := certs.Load(context.Background(), certs.Config{Certificates: []string{glob}}, c)
	if err != nil {
		return err
	}
	for range 100 {
		for _, info := range store.Certificates() {
			if err := handshake(store, info.Names[0]); err != nil {
				return err
			}
		}
	}
	says, err := c.Assertion(name)
	if err != nil {
		return err
	}
	e, now := base64.RawURLEncoding.EncodeToString, time.Now().Unix()
	for range 100 {
		_, err := says.SignJWT(context.Background(), []byte(e(fmt.Appendf(nil, `{"alg":"ES256","typ":"JWT","kid":%q}`, says.KeyID()))+"."+
			e(fmt.Appendf(nil, `{"iss":"https://auth.corp.example","sub":"a","aud":"https://wiki.corp.example","iat":%d,"exp":%d}`, now, now+60))))
		if err != nil {
			return err
		}
	}
	fmt.Println("used")
	return rest(store)
}

func handshake(store *certs.Store, name string) error {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	served := make(chan error, 1)
	go func() {
		served <- tls.Server(a, &tls.Config{GetCertificate: store.GetCertificate, MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true}).Handshake()
	}()
	if err := tls.Client(b, &tls.Config{ServerName: name, InsecureSkipVerify: true}).Handshake(); err != nil {
		return err
	}
	return <-served
}

// rest keeps v in memory until the test has looked.
func rest(v any) error {
	_, err := io.Copy(io.Discard, os.Stdin)
	fmt.Fprintf(io.Discard, "%T", v)
	return err
}

func generate(kind string) (crypto.Signer, error) {
	switch kind {
	case "p256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "p384":
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ed25519":
		_, k, err := ed25519.GenerateKey(rand.Reader)
		return k, err
	default:
		return rsa.GenerateKey(rand.Reader, 2048)
	}
}

var kinds = []string{"p256", "p384", "ed25519", "rsa"}

// start runs a helper and returns what it printed up to the line that begins with last.
func start(t *testing.T, cmd *exec.Cmd, last string) string {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	var said strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		said.WriteString(lines.Text() + "\n")
		if strings.HasPrefix(lines.Text(), last) {
			return said.String()
		}
	}
	t.Fatal("the helper ended early")
	return ""
}

func TestKeysAreFoundInAProcessThatHoldsThem(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			cmd := keydtest.As(t, os.Geteuid(), "hold", kind)
			block, _ := pem.Decode([]byte(start(t, cmd, "-----END")))
			secrets, err := memscan.PKCS8(kind, block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			finds, err := memscan.Process(cmd.Process.Pid, secrets)
			if err != nil || len(finds) == 0 {
				t.Errorf("got %v %v, want the key", finds, err)
			}
			var forms []string
			for _, f := range finds {
				forms = append(forms, f.Part+" "+f.Form)
			}
			t.Logf("found %s", strings.Join(forms, ", "))
		})
	}
}

// KEY-01, for what this module's part of a gateway does: handshakes with every kind of key, and assertions, leave no
// trace of a key in the process. The same scan finds every key in keyd.
func TestKEY01UseThroughTheKeyringLeavesNoTrace(t *testing.T) {
	var keys []keydtest.Key
	for _, kind := range kinds {
		private, err := generate(kind)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, keydtest.Key{Name: kind, Purpose: "tls-server", Private: private, Hosts: []string{kind + ".corp.example"}})
	}
	says, err := generate("p256")
	if err != nil {
		t.Fatal(err)
	}
	keys = append(keys, keydtest.Key{Name: "says", Purpose: "assertion", Private: says})
	for name, purpose := range map[string]string{"corp.example/audit/decision": "checkpoint", "corp.example/audit/manifest": "manifest"} {
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, keydtest.Key{Name: purpose, Purpose: purpose, Private: private, Origins: []string{name}})
	}
	s := keydtest.Make(t, keydtest.KeydUID, []int{keydtest.GatewayUID}, keys...)
	p := s.Start(t)
	secrets, err := memscan.Files(filepath.Join(s.Dir, "keys", "*.pem"))
	if err != nil {
		t.Fatal(err)
	}

	cmd := keydtest.As(t, keydtest.GatewayUID, "use", s.Socket, s.Certificates, "says")
	start(t, cmd, "used")
	began := time.Now()
	finds, err := memscan.Process(cmd.Process.Pid, secrets)
	if err != nil || len(finds) > 0 {
		t.Errorf("in the process that used the keys: got %v %v, want nothing", finds, err)
	}
	t.Logf("the scan took %v", time.Since(began).Round(time.Millisecond))

	finds, err = memscan.Process(p.PID(), secrets)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if !slices.ContainsFunc(finds, func(f memscan.Find) bool { return f.Key == k.Name+".pem" }) {
			t.Errorf("the scan does not find %s in keyd", k.Name)
		}
	}
}

func TestEveryFormIsFound(t *testing.T) {
	for _, kind := range kinds {
		private, err := generate(kind)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			t.Fatal(err)
		}
		secrets, err := memscan.PKCS8(kind, der)
		if err != nil {
			t.Fatal(err)
		}
		public, err := x509.MarshalPKIXPublicKey(private.Public())
		if err != nil {
			t.Fatal(err)
		}
		reversed := slices.Clone(der)
		slices.Reverse(reversed)
		for form, data := range map[string][]byte{
			"raw":                   der,
			"reversed":              reversed,
			"hex":                   []byte(hex.EncodeToString(der)),
			"hex, upper":            []byte(strings.ToUpper(hex.EncodeToString(der))),
			"base64":                []byte(base64.StdEncoding.EncodeToString(der)),
			"base64, phase 1":       []byte(base64.StdEncoding.EncodeToString(append([]byte{1}, der...))),
			"base64, phase 2":       []byte(base64.StdEncoding.EncodeToString(append([]byte{1, 2}, der...))),
			"base64 of URLs":        []byte(base64.RawURLEncoding.EncodeToString(der)),
			"PEM":                   keydtest.PEM(t, private),
			"half of it":            der[:len(der)*2/3],
			"the other half of it":  der[len(der)/3:],
			"in something unlikely": append(append(make([]byte, 999), der...), make([]byte, 7)...),
		} {
			finds, err := memscan.Bytes(data, secrets)
			if err != nil || len(finds) == 0 {
				t.Errorf("%s as %s: got %v %v, want it found", kind, form, finds, err)
			}
		}
		for name, data := range map[string][]byte{
			"the public key": public, "nothing": nil, "zeros": make([]byte, 1<<16), "its PEM": pem.EncodeToMemory(&pem.Block{Bytes: public}),
		} {
			if finds, err := memscan.Bytes(data, secrets); err != nil || len(finds) > 0 {
				t.Errorf("%s of %s: got %v %v, want nothing", name, kind, finds, err)
			}
		}
	}
}

func TestWhatCannotBeScannedIsAnError(t *testing.T) {
	if _, err := memscan.PKCS8("x", []byte("not DER")); err == nil {
		t.Error("garbage has secrets")
	}
	if _, err := memscan.Files(filepath.Join(t.TempDir(), "*")); err == nil {
		t.Error("no files have secrets")
	}
	if _, err := memscan.Process(1<<30, nil); err == nil {
		t.Error("a process that does not exist is clean")
	}
}
