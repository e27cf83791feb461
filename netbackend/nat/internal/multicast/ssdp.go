package multicast

import "bytes"

// Messages of SSDP begin by these lines (UPnP Device Architecture 2.0 sections 1.2.2, 1.3.2 and 1.3.3).
var (
	searchLine = []byte("M-SEARCH * HTTP/1.1\r\n")
	notifyLine = []byte("NOTIFY * HTTP/1.1\r\n")
	answerLine = []byte("HTTP/1.1 200 ")
)

// isSearch, isNotify and isAnswer report what a message is.
func isSearch(m []byte) bool { return bytes.HasPrefix(m, searchLine) }
func isNotify(m []byte) bool { return bytes.HasPrefix(m, notifyLine) }
func isAnswer(m []byte) bool { return bytes.HasPrefix(m, answerLine) }
