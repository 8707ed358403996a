package keyd

import (
	"strings"
	"testing"
)

func TestCertificateVerifyIsExact(t *testing.T) {
	spaces := strings.Repeat(" ", 64)
	for _, s := range []side{serverSide, clientSide} {
		context := "TLS 1.3, " + string(s) + " CertificateVerify"
		other := "TLS 1.3, " + string(map[side]side{serverSide: clientSide, clientSide: serverSide}[s]) + " CertificateVerify"
		for _, tt := range []struct {
			name, message string
			ok            bool
		}{
			{"SHA-256 transcript", spaces + context + "\x00" + strings.Repeat("h", 32), true},
			{"SHA-384 transcript", spaces + context + "\x00" + strings.Repeat("h", 48), true},
			{"31 bytes", spaces + context + "\x00" + strings.Repeat("h", 31), false},
			{"33 bytes", spaces + context + "\x00" + strings.Repeat("h", 33), false},
			{"47 bytes", spaces + context + "\x00" + strings.Repeat("h", 47), false},
			{"64 bytes", spaces + context + "\x00" + strings.Repeat("h", 64), false},
			{"the other side's", spaces + other + "\x00" + strings.Repeat("h", 32), false},
			{"63 spaces", spaces[1:] + context + "\x00" + strings.Repeat("h", 32), false},
			{"65 spaces", spaces + " " + context + "\x00" + strings.Repeat("h", 32), false},
			{"no NUL", spaces + context + strings.Repeat("h", 33), false},
			{"another case", spaces + strings.ToLower(context) + "\x00" + strings.Repeat("h", 32), false},
			{"a digest", strings.Repeat("h", 32), false},
			{"nothing", "", false},
		} {
			if err := s.check([]byte(tt.message)); (err == nil) != tt.ok {
				t.Errorf("%s: %s: got %v, want ok %v", s, tt.name, err, tt.ok)
			}
		}
	}
}

// FuzzCertificateVerify: no message is one of both sides, and what is accepted is the prefix of its side and a
// transcript hash, nothing else. KEY-05.
func FuzzCertificateVerify(f *testing.F) {
	for _, s := range []side{serverSide, clientSide} {
		for _, n := range []int{0, 31, 32, 33, 48, 64} {
			f.Add([]byte(s.certificateVerify() + strings.Repeat("h", n)))
		}
	}
	f.Add([]byte(strings.Repeat("h", 32)))
	f.Add([]byte("0\x82\x01\x00")) // a certificate begins so
	f.Fuzz(func(t *testing.T, message []byte) {
		accepted := 0
		for _, s := range []side{serverSide, clientSide} {
			if s.check(message) != nil {
				continue
			}
			accepted++
			// 98 bytes: 64 spaces, 33 of context string, NUL.
			want := strings.Repeat(" ", 64) + "TLS 1.3, " + string(s) + " CertificateVerify\x00"
			if n := len(message) - 98; string(message[:98]) != want || n != 32 && n != 48 {
				t.Fatalf("%s: accepted %q", s, message)
			}
		}
		if accepted > 1 {
			t.Fatalf("accepted for both sides: %q", message)
		}
	})
}
