package test

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/certs/keyd"
	"sallyport/test/harness"
)

// withOwnKeyd has the stand's gateway use a keyd that runs by itself, and returns how to start it and its socket.
func withOwnKeyd(t *testing.T, s *harness.Stand) (start func() *harness.Process, socket string) {
	t.Helper()
	config := filepath.Join(s.Dir, "keys", "keyd.yaml")
	socket = filepath.Join(s.Dir, "keys", "run", "keyd.sock")
	spawn := fmt.Sprintf("spawn: { binary: %s/keyd, config: %s }", harness.Binaries(t), config)
	edit(t, s, spawn, "socket: "+socket)
	return func() *harness.Process {
		p := s.StartQuietly(t, exec.Command(filepath.Join(harness.Binaries(t), "keyd"), "run", "--config", config))
		harness.Eventually(t, time.Minute, "keyd to listen", func() bool {
			_, err := keyd.AskStatus(socket)
			return err == nil
		})
		return p
	}, socket
}

// askKeyd asks keyd, as the gateway's user, to sign with a TLS key what is no handshake, and returns the code of the answer.
func askKeyd(t *testing.T, socket string, operation byte, message string) byte {
	t.Helper()
	st, err := keyd.AskStatus(socket)
	if err != nil {
		t.Fatal(err)
	}
	id, err := base64.RawURLEncoding.DecodeString(st.Keys[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	body := append(id, message...)
	frame := append([]byte("SPKEYD\x00\x01"), binary.BigEndian.AppendUint32(nil, uint32(5+len(body)))...)
	frame = append(frame, 0, 0, 0, 1, operation)
	if _, err := c.Write(append(frame, body...)); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 8+4+4+1)
	if _, err := io.ReadFull(c, answer); err != nil {
		t.Fatal(err)
	}
	return answer[len(answer)-1]
}

// KEY-05: what a hostile gateway tries is in the control log of an honest one, as an alarm, and nothing twice, whoever is
// started anew.
func TestKEY05RefusalsReachTheControlLog(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	startKeyd, socket := withOwnKeyd(t, s)
	probes := withProbes(t, s)
	key := startKeyd()
	gw := s.Start(t)
	const signAssertion, wrongPurpose, secret = 4, 4, "anything at all"
	if code := askKeyd(t, socket, signAssertion, secret); code != wrongPurpose {
		t.Fatalf("got code %d, want wrong_purpose", code)
	}
	var refused []audit.Record
	harness.Eventually(t, time.Minute, "the refusal to be on record", func() bool {
		refused = readLog(t, s, audit.ControlLog, audit.Filter{Code: "key_refused"})
		return len(refused) > 0
	})
	var detail struct {
		Code, Op, Key, Why string
		UID, PID           int
	}
	if err := json.Unmarshal(refused[0].Detail, &detail); err != nil || detail.Code != "wrong_purpose" || detail.Op != "sign_assertion" || detail.PID != os.Getpid() || detail.UID != os.Getuid() {
		t.Errorf("got %v %s", err, refused[0].Detail)
	}
	harness.Eventually(t, time.Minute, "the alarm", func() bool {
		return strings.Contains(gw.Output(), "level=ERROR msg=\"the key process refused a request")
	})
	if n := gauge(t, probes, `sallyport_key_refusals_total\{code="wrong_purpose"\}`); n != 1 {
		t.Errorf("got %v refusals in the metrics, want 1", n)
	}
	if st, err := keyd.AskStatus(socket); err != nil || st.Alarms != 1 || !strings.Contains(key.Output(), "level=ERROR") {
		t.Errorf("keyd itself: %v, %d alarms: %s", err, st.Alarms, key.Output())
	}
	harness.Eventually(t, 2*time.Minute, "a window's counts to be on record", func() bool {
		return len(readLog(t, s, audit.ControlLog, audit.Filter{Code: "key_use"})) > 0
	})

	if err := gw.Stop(); err != nil {
		t.Fatal(err)
	}
	askKeyd(t, socket, signAssertion, secret) // while nobody records
	gw = s.Start(t)
	harness.Eventually(t, time.Minute, "the refusal in between", func() bool {
		return len(readLog(t, s, audit.ControlLog, audit.Filter{Code: "key_refused"})) == 2
	})
	key.Kill()
	startKeyd()
	askKeyd(t, socket, signAssertion, secret)
	harness.Eventually(t, time.Minute, "the refusal of the new keyd", func() bool {
		return len(readLog(t, s, audit.ControlLog, audit.Filter{Code: "key_refused"})) == 3
	})
	if n := len(readLog(t, s, audit.ControlLog, audit.Filter{Code: "key_log_gap"})); n != 1 {
		t.Errorf("%d gaps are on record, want 1", n)
	}
	seen := map[string]bool{}
	for _, r := range readLog(t, s, audit.ControlLog, audit.Filter{}) {
		if !slices.Contains([]string{"key_refused", "key_use"}, r.Code) {
			continue
		}
		var at struct {
			Run string
			Seq uint64
		}
		if err := json.Unmarshal(r.Detail, &at); err != nil || at.Run == "" || at.Seq == 0 || seen[fmt.Sprint(at)] {
			t.Errorf("%s: got %v %s: it has no number, or is there twice", r.Code, err, r.Detail)
		}
		seen[fmt.Sprint(at)] = true
		if bytes.Contains(r.Detail, []byte(secret)) {
			t.Errorf("%s has the message: %s", r.Code, r.Detail)
		}
	}
}

// A client that knows nothing newer than TLS 1.2 is served where gateway and key process both say so, and its requests are
// everybody's.
func TestOldClientsReachTheAppsThatTheyMay(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	config := filepath.Join(s.Dir, "keys", "keyd.yaml")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	const name = "names: [\"wiki.corp.test\"]\n"
	if err := os.WriteFile(config, []byte(strings.Replace(string(text), name, name+"    tls12: true\n", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Start(t)
	browser := s.Browser()
	if status, body := s.SignIn(t, browser, "wiki", "ada", "staff"); status != http.StatusOK {
		t.Fatalf("sign-in: %d %s", status, body)
	}
	cookie := s.Cookie(t, browser, "wiki")
	old := s.Transport()
	old.TLSClientConfig.MaxVersion = tls.VersionTLS12
	get := func(label string) (*http.Response, error) {
		old.CloseIdleConnections()
		res, err := old.RoundTrip(request(t, http.MethodGet, s.URL(label, "/"), cookie, nil))
		if err == nil {
			res.Body.Close()
		}
		return res, err
	}
	if res, err := get("wiki"); err == nil {
		t.Errorf("by default an old client gets %s", res.Status)
	}

	edit(t, s, "tls: { ", `tls: { min_version: "1.2", `)
	if out, code := s.Sallyport(t, "reload"); code != 0 {
		t.Fatalf("reload: %s", out)
	}
	if out, _ := s.Sallyport(t, "check"); !strings.Contains(out, "tls.min_version is 1.2") {
		t.Errorf("check does not say what it costs: %s", out)
	}
	res, err := get("wiki")
	if err != nil || res.StatusCode != http.StatusOK || res.TLS.Version != tls.VersionTLS12 {
		t.Errorf("an old client gets %v %v", res, err)
	}
	if res, err := get("payroll"); err == nil {
		t.Errorf("where the key is not marked, an old client gets %s", res.Status)
	}
	if status, _ := harness.Get(t, browser, s.URL("wiki", "/")); status != http.StatusOK {
		t.Errorf("a browser gets %d", status)
	}
}
