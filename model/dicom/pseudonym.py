"""A name for a study that does not tell whose it is."""

import hashlib
import hmac

from model.dicom.attributes import text, uid
from model.dicom.study import Study

LENGTH = 16
"""Hexadecimal digits, 64 bits: among a million studies two of the same name are a matter of one in ten million."""


def pseudonym(study: Study, salt: str = "") -> str:
    """Return a name that the same study always gets, in any folder and on any machine.

    It is the HMAC-SHA-256, under the salt, of Patient ID (0010,0020), Study Instance UID (0020,000D) and Frame of
    Reference UID (0020,0052). Whoever lacks the study cannot guess these UIDs; whoever has it, or a PACS that does, can
    compute the name and so recognise the patient, unless the salt is secret.
    """
    header = study.ct_header
    identity = (text(header, "PatientID"), uid(header, "StudyInstanceUID"), uid(header, "FrameOfReferenceUID"))
    message = "\0".join(identity).encode(errors="backslashreplace")
    return hmac.new(salt.encode(errors="backslashreplace"), message, hashlib.sha256).hexdigest()[:LENGTH]
