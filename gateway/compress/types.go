package compress

import "strings"

// compressibleType reports whether content of this type gets smaller. Images, video, archives and most fonts are
// compressed already. Event streams and gRPC are left alone: their messages are small, must not wait, and come in
// the rhythm of what they say.
func compressibleType(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.ToLower(strings.TrimSpace(media))
	kind, sub, ok := strings.Cut(media, "/")
	switch {
	case !ok || sub == "" || sub == "event-stream" || strings.HasPrefix(sub, "grpc"):
		return false
	case kind == "text", strings.HasSuffix(sub, "+json"), strings.HasSuffix(sub, "+xml"):
		return true
	}
	return compressibleTypes[media]
}

var compressibleTypes = map[string]bool{
	"application/javascript": true, "application/x-javascript": true, "application/ecmascript": true,
	"application/json": true, "application/x-ndjson": true, "application/json-seq": true,
	"application/xml": true, "application/wasm": true, "application/rtf": true, "application/yaml": true,
	"application/toml": true, "application/sql": true, "application/graphql": true,
	"application/vnd.ms-fontobject": true, "font/ttf": true, "font/otf": true,
	"image/bmp": true, "image/x-icon": true, "image/vnd.microsoft.icon": true,
	"model/obj": true, "model/stl": true,
}
