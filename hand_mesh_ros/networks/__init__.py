"""Networks and nothing else: from pixels to numbers, without knowledge of cameras or ROS."""
