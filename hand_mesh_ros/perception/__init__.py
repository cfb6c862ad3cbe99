"""Images to hands, one stage a file; no ROS in here."""
