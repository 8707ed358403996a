package headers

// MayTrail reports whether a field with such values may follow an answer's body. What may not stand in an app's header may not come late
// either, and neither may a field that a recipient needs before the body: for framing, routing, authentication, caching
// and reading of the content (RFC 9110 §6.5.1).
func MayTrail(name string, values ...string) bool {
	return isOrdinary(name) && fromApp.class(name) == passes && !beforeBody[name] && isText(values)
}

var beforeBody = map[string]bool{
	"Age": true, "Authorization": true, "Cache-Control": true, "Cache-Status": true, "Cdn-Cache-Control": true,
	"Clear-Site-Data": true, "Content-Encoding": true, "Content-Length": true, "Content-Range": true,
	"Content-Location": true, "Content-Security-Policy": true, "Content-Type": true, "Date": true, "Expires": true, "Host": true,
	"Link": true, "Location": true, "Pragma": true, "Refresh": true, "Set-Cookie": true, "Vary": true, "Www-Authenticate": true,
}
