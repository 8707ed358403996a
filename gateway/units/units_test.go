package units

import "testing"

func TestBytesReadAsTheyPrint(t *testing.T) {
	for text, want := range map[string]Bytes{"0": 0, "512": 512, "64KiB": 64 << 10, "10MiB": 10 << 20, "1GiB": 1 << 30, "1MB": 1e6, "5 KB": 5000} {
		var b, again Bytes
		if err := b.UnmarshalText([]byte(text)); err != nil || b != want {
			t.Errorf("%q = %d, %v, want %d", text, b, err, want)
		}
		if err := again.UnmarshalText([]byte(b.String())); err != nil || again != b {
			t.Errorf("%q prints as %q and reads back as %d", text, b, again)
		}
	}
	for _, bad := range []string{"", "-1", "1.5MiB", "9223372036854775807GiB", "ten"} {
		if err := new(Bytes).UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
