package headers

import "testing"

func TestTrailersCarryNothingThatCountsBeforeTheBody(t *testing.T) {
	for name, want := range map[string]bool{
		"Grpc-Status": true, "Grpc-Message": true, "X-Checksum": true, "Server-Timing": true, "Digest": true,
		"Set-Cookie": false, "Content-Length": false, "Transfer-Encoding": false, "Location": false, "X-Sallyport-User": false,
		"Trailer": false, "Connection": false, "Grpc_status": false, "": false, "Strict-Transport-Security": false,
	} {
		if got := MayTrail(name); got != want {
			t.Errorf("%q may trail: got %v, want %v", name, got, want)
		}
	}
}
