package keyd_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"sallyport/certs/internal/wire"
	"sallyport/certs/keyd"
	"sallyport/certs/keyd/keydtest"
)

// KEY-05: what is refused can be read in the signing log, each with who asked for what, and a key that is asked for what
// it is not for is an alarm in keyd's own log and its status. None of them says what was in the message.
func TestKEY05RefusalsAreRecordedAndAlarmed(t *testing.T) {
	all := keys(t)
	s := keydtest.Make(t, 0, []int{0}, all...)
	process := s.Start(t)
	p := dial(t, s)
	const secret = "Zm9yIHlvdXIgZXllcyBvbmx5"
	wiki := id(t, all[0])
	p.ask(wire.OpSignTLS13Server, wire.SignBody(wiki, []byte(certificateVerify)))
	for _, tt := range []struct {
		op   wire.Op
		body []byte
		code wire.Code
		key  string
	}{
		{wire.OpSignTLS12Server, wire.SignBody(wiki, []byte(secret)), wire.WrongPurpose, "wiki"},
		{wire.OpSignAssertion, wire.SignBody(wiki, []byte(secret)), wire.WrongPurpose, "wiki"},
		{wire.OpSignTLS13Server, wire.SignBody(wiki, []byte(secret)), wire.Refused, "wiki"},
		{wire.OpSignTLS13Server, wire.SignBody(wire.KeyID{1}, []byte(secret)), wire.UnknownKey, ""},
		{wire.OpSignTLS13Server, []byte(secret), wire.Malformed, ""},
		{wire.Op(200), wire.SignBody(wiki, []byte(secret)), wire.UnknownOp, "wiki"},
		{wire.OpSigningLog, []byte(secret), wire.Malformed, ""},
	} {
		if code, _ := p.ask(tt.op, tt.body); code != tt.code {
			t.Errorf("%s: got %s, want %s", tt.op, code, tt.code)
		}
		l, err := keyd.AskSigningLog(s.Socket)
		if err != nil {
			t.Fatal(err)
		}
		last := l.Entries[len(l.Entries)-1]
		if last.Window != nil { // ten seconds went by on a slow machine
			last = l.Entries[len(l.Entries)-2]
		}
		r := last.Refusal
		if r == nil || r.Code != tt.code.String() || r.Op != tt.op.String() || r.Key != tt.key || r.UID != 0 || r.PID != os.Getpid() || time.Since(r.Time) > time.Hour {
			t.Errorf("%s: got %+v", tt.op, r)
		}
		text, _ := json.Marshal(l)
		var printed bytes.Buffer
		if err := keyd.PrintSigningLog(&printed, l); err != nil || !strings.Contains(printed.String(), tt.code.String()) {
			t.Errorf("%s: printed %v %s", tt.op, err, &printed)
		}
		if strings.Contains(string(text)+printed.String()+process.Log(), secret) {
			t.Errorf("%s: what is said of the message has its bytes", tt.op)
		}
	}
	out, err := exec.Command(keydtest.Binary(), "log", "--config", s.Config).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "is for tls-server in TLS 1.3 only") {
		t.Errorf("keyd log: %v %s", err, out)
	}
	if out, err := exec.Command(keydtest.Binary(), "log", "--socket", s.Socket, "--json").Output(); err != nil || json.Unmarshal(out, new(keyd.SigningLog)) != nil {
		t.Errorf("keyd log --json: %v %s", err, out)
	}
	st, err := keyd.AskStatus(s.Socket)
	if err != nil {
		t.Fatal(err)
	}
	if a := st.LastAlarm; st.Alarms != 2 || a == nil || a.Op != "sign_assertion" || a.Key != "wiki" {
		t.Errorf("got %d alarms, the last %+v", st.Alarms, a)
	}
	var printed bytes.Buffer
	if err := keyd.PrintStatus(&printed, st); err != nil || !strings.Contains(printed.String(), "ALARMS") {
		t.Errorf("got %v %s", err, &printed)
	}
	keydtest.Eventually(t, "the alarms are in keyd's log", func() error {
		if n := strings.Count(process.Log(), "level=ERROR msg=\"a key was asked for what it is not for"); n != 2 {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
}

// A key that is asked more often than its rate allows answers so, and no other key does.
func TestKEY05RatesBoundWhatAKeySigns(t *testing.T) {
	all := keys(t)
	all[0].Rate = 2
	s := keydtest.Make(t, 0, []int{0}, all...)
	s.Start(t)
	p := dial(t, s)
	began := time.Now()
	codes := map[wire.Code]int{}
	for range 100 {
		code, _ := p.ask(wire.OpSignTLS13Server, wire.SignBody(id(t, all[0]), []byte(certificateVerify)))
		codes[code]++
		if code, body := p.ask(wire.OpSignTLS13Server, wire.SignBody(id(t, all[9]), []byte(certificateVerify))); code != wire.OK {
			t.Fatalf("another key: got %s %q", code, body)
		}
	}
	most := 2 + 2*int(time.Since(began)/time.Second+1)
	if codes[wire.OK] < 2 || codes[wire.OK] > most || codes[wire.OK]+codes[wire.Limited] != 100 {
		t.Errorf("got %v, want at most %d signatures", codes, most)
	}
	st, err := keyd.AskStatus(s.Socket)
	if err != nil || st.Refusals["limited"] != uint64(codes[wire.Limited]) {
		t.Errorf("got %v %v, want %d limited", st.Refusals, err, codes[wire.Limited])
	}
}
